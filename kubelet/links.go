package kubelet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/serve"
)

// Usage implements serve.Node.
func (s served) Usage(ctx context.Context) ([]serve.PodUsage, error) {
	var all []serve.PodUsage
	for _, p := range s.Pods() {
		if p.Status.Phase != corev1.PodRunning {
			continue
		}
		st, err := s.a.dep.Runtime.PodStats(ctx, string(p.UID))
		if err != nil {
			continue // it went meanwhile
		}
		u := serve.PodUsage{Pod: p, PodStats: st}
		if !p.Spec.HostNetwork && len(st.Containers) > 0 {
			// All containers share the pod's network: any process of one shows it.
			if c, err := s.a.dep.Runtime.Status(ctx, st.Containers[0].ID); err == nil && c.PID > 0 {
				u.Links = linksOf(c.PID)
			}
		}
		all = append(all, u)
	}
	return all, nil
}

// linksOf reads the network interfaces that a process sees; nothing of one that
// has ended.
func linksOf(pid int) []serve.Link {
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseLinks(f)
}

// parseLinks reads /proc/PID/net/dev but for the loopback: proc_pid_net(5).
func parseLinks(r io.Reader) (links []serve.Link) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		name, counts, ok := strings.Cut(sc.Text(), ":")
		f := strings.Fields(counts)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 16 {
			continue
		}
		traffic := func(f []string) (t serve.Traffic) {
			for i, n := range []*uint64{&t.Bytes, &t.Packets, &t.Errors, &t.Dropped} {
				*n, _ = strconv.ParseUint(f[i], 10, 64)
			}
			return t
		}
		links = append(links, serve.Link{Name: name, Received: traffic(f), Sent: traffic(f[8:])})
	}
	return links
}
