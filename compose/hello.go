package compose

import (
	"io/fs"
	"time"

	"sagong/hello"
	"sagong/runtime/image"
)

// helloImages describes the images made of this very binary.
func helloImages() ([]image.Builtin, error) {
	bin, err := hello.RunningBinary()
	if err != nil {
		return nil, err
	}
	var all []image.Builtin
	for _, v := range hello.Versions() {
		all = append(all, image.Builtin{
			Name: hello.Repository + ":" + v, Identity: bin.Identity, Created: time.Unix(0, 0).UTC(),
			Config: image.Config{
				Entrypoint: []string{"/hello"}, Env: hello.Environment(v), WorkingDir: "/",
				User: "65532:65532", ExposedPorts: []string{"8080/tcp"}, StopSignal: "SIGTERM",
				Labels: map[string]string{"org.opencontainers.image.title": "hello", "org.opencontainers.image.version": v},
			},
			Files: []image.BuiltinFile{
				{Path: "hello", Mode: 0o755, Source: bin.Path, Size: bin.Size},
				{Path: "bin", Mode: fs.ModeDir | 0o755},
				{Path: "bin/tar", Mode: fs.ModeSymlink | 0o777, Link: "/hello"},
				{Path: "etc", Mode: fs.ModeDir | 0o755},
				{Path: "etc/passwd", Mode: 0o644, Content: []byte(hello.Passwd)},
				{Path: "etc/group", Mode: 0o644, Content: []byte(hello.Group)},
				{Path: "home", Mode: fs.ModeDir | 0o755},
				{Path: "home/hello", Mode: fs.ModeDir | 0o755, UID: hello.User, GID: hello.User},
				{Path: "root", Mode: fs.ModeDir | 0o700},
				{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
			},
		})
	}
	return all, nil
}
