package native

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// ResolveUser finds a user of an image: "name", "uid", "name:group", "uid:gid".
// Supplementary groups are those that /etc/group names the user in. A number
// without an entry is itself with group 0; a name without one is an error.
func (r *Runtime) ResolveUser(_ context.Context, root runtime.Rootfs, user string) (runtime.User, error) {
	m, err := mountRoot(root, "", "", r.dirs.run)
	if err != nil {
		return runtime.User{}, fmt.Errorf("cannot resolve user %q: %w", user, err)
	}
	defer m.Close()
	u, err := resolveUser(user, func(name string) (io.ReadCloser, error) { return openInRoot(m, name) })
	if err != nil {
		return runtime.User{}, fmt.Errorf("cannot resolve user %q: %w", user, err)
	}
	return u, nil
}

// openInRoot opens a regular file of a root file system as a process inside
// would, never leaving it however its links point.
func openInRoot(root *os.File, name string) (io.ReadCloser, error) {
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: name, Err: unix.EINVAL}
	}
	return f, nil
}

// maxAccounts bounds what is read of a container's own passwd and group.
const maxAccounts = 8 << 20

// eachAccount calls f with the colon-separated fields of every line until it
// says stop. A file that does not exist has no lines.
func eachAccount(open func(string) (io.ReadCloser, error), name string, f func(fields []string) bool) error {
	file, err := open(name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(io.LimitReader(file, maxAccounts))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if !f(strings.Split(line, ":")) {
			return nil
		}
	}
	return s.Err()
}

func number32(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}

func resolveUser(spec string, open func(string) (io.ReadCloser, error)) (runtime.User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	uid, numeric := number32(name)
	u := runtime.User{UID: uid}
	found := false
	err := eachAccount(open, "/etc/passwd", func(f []string) bool {
		if len(f) < 4 {
			return true
		}
		id, ok := number32(f[2])
		// A number is looked up as a number, even where a user is called so.
		if !ok || (numeric && id != uid) || (!numeric && f[0] != name) {
			return true
		}
		found = true
		u.UID, u.Name = id, f[0]
		u.GID, _ = number32(f[3])
		if len(f) > 5 {
			u.Home = f[5]
		}
		return false
	})
	if err != nil {
		return u, err
	}
	if !found && !numeric {
		return u, fmt.Errorf("no user %q in /etc/passwd of the image", name)
	}
	gid, groupNumeric := number32(group)
	groupFound := false
	err = eachAccount(open, "/etc/group", func(f []string) bool {
		if len(f) < 3 {
			return true
		}
		id, ok := number32(f[2])
		if !ok {
			return true
		}
		if hasGroup && !groupFound && ((groupNumeric && id == gid) || (!groupNumeric && f[0] == group)) {
			groupFound, u.GID = true, id
		}
		// Naming a group explicitly leaves the supplementary ones out.
		if !hasGroup && len(f) > 3 && u.Name != "" && slices.Contains(strings.Split(f[3], ","), u.Name) {
			u.Groups = append(u.Groups, id)
		}
		return true
	})
	if err != nil {
		return u, err
	}
	if hasGroup && !groupFound {
		if !groupNumeric {
			return u, fmt.Errorf("no group %q in /etc/group of the image", group)
		}
		u.GID = gid
	}
	return u, nil
}

func hasHome(env []string) bool {
	return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") })
}

// homeOf is the home directory of a container's user, "/" when there is none.
func homeOf(root *os.File, u runtime.User) string {
	if u.Home != "" {
		return u.Home
	}
	found, err := resolveUser(strconv.FormatUint(uint64(u.UID), 10), func(name string) (io.ReadCloser, error) { return openInRoot(root, name) })
	if err != nil || found.Home == "" {
		return "/"
	}
	return found.Home
}
