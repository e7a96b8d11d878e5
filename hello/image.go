package hello

import (
	"debug/elf"
	"fmt"
	"os"
	"runtime/debug"
)

// Repository is the name of the built-in images without their tag.
const Repository = "sagong.local/hello"

// Versions are the tags of the built-in images. They differ in the version
// their page shows.
func Versions() []string { return []string{"v1", "v2"} }

// Port is where the server listens unless told otherwise.
const Port = 8080

// User is the user and group the images run as unless a pod says otherwise.
const User = 65532

// Binary is the program in the images: the one that is running.
type Binary struct {
	Path     string // can be opened as long as this process lives
	Identity string // differs for binaries that differ
	Size     int64
}

// RunningBinary describes the running program without reading all of it.
func RunningBinary() (Binary, error) {
	b := Binary{Path: "/proc/self/exe"}
	info, err := os.Stat(b.Path)
	if err != nil {
		return b, fmt.Errorf("cannot describe the running binary: %w", err)
	}
	b.Size = info.Size()
	b.Identity = fmt.Sprintf("%d %s", b.Size, buildID(b.Path))
	return b, nil
}

// buildID is the build id that the Go linker has left in the file, which
// covers all its content, or failing that the version and the file's time.
func buildID(path string) string {
	if f, err := elf.Open(path); err == nil {
		defer f.Close()
		if s := f.Section(".note.go.buildid"); s != nil && s.Size < 4096 {
			if note, err := s.Data(); err == nil && len(note) > 16+20 {
				return string(note[16:])
			}
		}
	}
	id := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		id = info.Main.Version
	}
	if info, err := os.Stat(path); err == nil {
		id += info.ModTime().String()
	}
	return id
}

// Environment is the environment of an image of this version.
func Environment(version string) []string {
	return []string{"PATH=/:/bin", "HELLO_VERSION=" + version}
}

// Passwd and Group are those files of the images.
const (
	Passwd = "root:x:0:0:root:/root:/hello\nhello:x:65532:65532:hello:/home/hello:/hello\nnobody:x:65534:65534:nobody:/:/hello\n"
	Group  = "root:x:0:\nhello:x:65532:\nnobody:x:65534:\n"
)
