package volume

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const msReadOnly = unix.MS_RDONLY

// mountFlags are the options that every file system knows.
var mountFlags = map[string]struct {
	set, clear uintptr
}{
	"defaults": {}, "rw": {0, unix.MS_RDONLY}, "ro": {unix.MS_RDONLY, 0},
	"suid": {0, unix.MS_NOSUID}, "nosuid": {unix.MS_NOSUID, 0}, "dev": {0, unix.MS_NODEV}, "nodev": {unix.MS_NODEV, 0},
	"exec": {0, unix.MS_NOEXEC}, "noexec": {unix.MS_NOEXEC, 0}, "async": {0, unix.MS_SYNCHRONOUS}, "sync": {unix.MS_SYNCHRONOUS, 0},
	"dirsync": {unix.MS_DIRSYNC, 0}, "atime": {0, unix.MS_NOATIME}, "noatime": {unix.MS_NOATIME, 0},
	"diratime": {0, unix.MS_NODIRATIME}, "nodiratime": {unix.MS_NODIRATIME, 0}, "relatime": {unix.MS_RELATIME, 0},
	"norelatime": {0, unix.MS_RELATIME}, "strictatime": {unix.MS_STRICTATIME, 0}, "lazytime": {unix.MS_LAZYTIME, 0},
}

// mountOptions splits a volume's mountOptions into the kernel's flags and the
// rest, which is for the file system.
func mountOptions(all []string) (flags uintptr, data string, err error) {
	var rest []string
	for _, list := range all {
		for o := range strings.SplitSeq(list, ",") {
			f, known := mountFlags[o]
			switch {
			case known:
				flags = flags&^f.clear | f.set
			case o == "" || strings.ContainsAny(o, " \t\n\\\""):
				return 0, "", fmt.Errorf("invalid mount option %q", o)
			default:
				rest = append(rest, o)
			}
		}
	}
	return flags, strings.Join(rest, ","), nil
}
