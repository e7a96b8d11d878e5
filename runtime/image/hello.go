package image

import (
	"fmt"
	"io/fs"

	"sagong/hello"
)

// Hello describes the built-in images of package hello, made of the running
// binary. The binary is copied when a container first needs one of them.
func Hello() ([]Builtin, error) {
	bin, err := hello.RunningBinary()
	if err != nil {
		return nil, fmt.Errorf("cannot describe the built-in images: %w", err)
	}
	dir := func(path string, mode fs.FileMode, id int) BuiltinFile {
		return BuiltinFile{Path: path, Mode: fs.ModeDir | mode, UID: id, GID: id}
	}
	files := []BuiltinFile{
		dir("bin", 0o755, 0),
		{Path: "bin/tar", Mode: fs.ModeSymlink | 0o777, Link: "../hello"},
		dir("dev", 0o755, 0),
		dir("etc", 0o755, 0),
		{Path: "etc/group", Mode: 0o644, Content: []byte(hello.Group)},
		{Path: "etc/nsswitch.conf", Mode: 0o644, Content: []byte("hosts: files dns\n")},
		{Path: "etc/passwd", Mode: 0o644, Content: []byte(hello.Passwd)},
		{Path: "hello", Mode: 0o755, Source: bin.Path, Size: bin.Size},
		dir("home", 0o755, 0),
		dir("home/hello", 0o755, hello.User),
		dir("proc", 0o555, 0),
		dir("root", 0o700, 0),
		dir("sys", 0o555, 0),
		dir("tmp", fs.ModeSticky|0o777, 0),
	}
	var list []Builtin
	for _, v := range hello.Versions() {
		list = append(list, Builtin{
			Name: hello.Repository + ":" + v, Identity: bin.Identity, Files: files,
			Config: Config{
				Entrypoint: []string{"/hello"}, Env: hello.Environment(v), WorkingDir: "/home/hello",
				User: fmt.Sprintf("%d:%d", hello.User, hello.User), StopSignal: "SIGTERM",
				ExposedPorts: []string{fmt.Sprintf("%d/tcp", hello.Port)},
				Labels:       map[string]string{"org.opencontainers.image.title": "hello", "org.opencontainers.image.version": v},
			},
		})
	}
	return list, nil
}
