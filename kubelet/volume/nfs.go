package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// nfs is a directory of a server, mounted by the kernel with version 4 of the
// protocol, which needs no program of the host.
type nfs struct{ m *Manager }

func (nfs) Handles(v *corev1.Volume) bool { return v.NFS != nil }

func (nfs) Live() bool { return false }

func (n nfs) Mount(ctx context.Context, r *Request) (string, error) {
	dir := r.dir("kubernetes.io~nfs")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("cannot make volume directory: %w", err)
	}
	return dir, n.m.mountNFS(ctx, r.Volume.NFS, nil, dir)
}

// mountNFS mounts a server's directory, unless something is mounted already.
func (m *Manager) mountNFS(ctx context.Context, s *corev1.NFSVolumeSource, options []string, dir string) error {
	if mounted, err := isMountpoint(dir); err != nil || mounted {
		return err
	}
	flags, data, err := mountOptions(options)
	if err != nil {
		return err
	}
	if s.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.Server)
	if err != nil || len(addrs) == 0 {
		return fmt.Errorf("cannot find NFS server %q: %w", s.Server, err)
	}
	asked := strings.Contains(data, "vers=")
	host := s.Server
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	for _, version := range []string{"4.2", "4.1", "4.0"} {
		o := "addr=" + addrs[0].Unmap().String()
		if !asked {
			o = "vers=" + version + "," + o
		}
		if data != "" {
			o += "," + data
		}
		err = m.mountCall(host+":"+s.Path, dir, "nfs4", flags, o)
		switch {
		case errors.Is(err, unix.ENODEV):
			return errors.New("the kernel of this node has no NFS")
		case asked || !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, unix.EINVAL):
			if err != nil {
				return fmt.Errorf("cannot mount %s:%s: %w", s.Server, s.Path, err)
			}
			return nil
		}
	}
	return fmt.Errorf("cannot mount %s:%s: %w", s.Server, s.Path, err)
}
