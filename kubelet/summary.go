package kubelet

import (
	"bufio"
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kubelet/resource"
	"sagong/kubelet/serve"
	"sagong/lib/cgroup"
)

// rates remembers the last reading of each CPU counter, to say how much was
// used a second since then.
type rates struct {
	mu   sync.Mutex
	last map[string]reading
}

type reading struct {
	at    time.Time
	nanos uint64
	rate  uint64
}

// rate is the nanoseconds of CPU a second since the reading before.
func (r *rates) rate(key string, at time.Time, nanos uint64) *uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]reading{}
	}
	old, ok := r.last[key]
	if ok && at.Sub(old.at) < time.Second {
		return &old.rate
	}
	now := reading{at: at, nanos: nanos}
	if ok && nanos >= old.nanos {
		now.rate = uint64(float64(nanos-old.nanos) / at.Sub(old.at).Seconds())
	}
	r.last[key] = now
	if !ok {
		return nil
	}
	return &now.rate
}

// keep forgets the counters of what is gone.
func (r *rates) keep(seen map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.last {
		if !seen[k] {
			delete(r.last, k)
		}
	}
}

// summary reads what the node and its pods use, brief without the disks.
func (a *Agent) summary(ctx context.Context, brief bool) (*serve.Summary, error) {
	now := time.Now()
	stamp := metav1.NewTime(now)
	s := &serve.Summary{Node: serve.NodeStats{NodeName: a.cfg.NodeName, StartTime: metav1.NewTime(bootTime())}, Pods: []serve.PodStats{}}
	seen := map[string]bool{}
	cpu := func(key string, at time.Time, nanos uint64) *serve.CPUStats {
		seen[key] = true
		return &serve.CPUStats{Time: metav1.NewTime(at), UsageCoreNanoSeconds: &nanos, UsageNanoCores: a.rates.rate(key, at, nanos)}
	}
	memory := func(at time.Time, m cgroup.MemoryStats) *serve.MemoryStats {
		out := &serve.MemoryStats{Time: metav1.NewTime(at), UsageBytes: &m.Usage, WorkingSetBytes: &m.WorkingSet, RSSBytes: &m.RSS, PageFaults: &m.PageFaults, MajorPageFaults: &m.MajorPageFaults}
		if m.Limit > m.WorkingSet {
			left := m.Limit - m.WorkingSet
			out.AvailableBytes = &left
		}
		return out
	}
	s.Node.CPU = cpu("", now, machineCPU())
	if mem, err := resource.ReadMemory(); err == nil {
		used, available, set := uint64(mem.Total-mem.Free), uint64(mem.Available), uint64(mem.Total-mem.Available)
		s.Node.Memory = &serve.MemoryStats{Time: stamp, UsageBytes: &used, AvailableBytes: &available, WorkingSetBytes: &set}
	}
	if !brief {
		if d, err := resource.ReadDisk(a.cfg.Dir); err == nil {
			s.Node.Fs = fsStats(stamp, d)
		}
		s.Node.Runtime = &struct {
			ImageFs *serve.FsStats `json:"imageFs,omitempty"`
		}{ImageFs: s.Node.Fs}
	}
	for _, p := range (served{a}).Pods() {
		if p.Status.Phase != corev1.PodRunning {
			continue
		}
		st, err := a.dep.Runtime.PodStats(ctx, string(p.UID))
		if err != nil {
			continue // it went meanwhile
		}
		ps := serve.PodStats{PodRef: serve.PodReference{Name: p.Name, Namespace: p.Namespace, UID: string(p.UID)},
			CPU: cpu(string(p.UID), st.At, st.Pod.CPU.UsageNanos), Memory: memory(st.At, st.Pod.Memory),
			ProcessStats: &serve.ProcessStats{ProcessCount: &st.Pod.Pids}, Containers: []serve.ContainerStats{}}
		if p.Status.StartTime != nil {
			ps.StartTime = *p.Status.StartTime
		}
		for _, c := range st.Containers {
			cs := serve.ContainerStats{Name: c.Name, CPU: cpu(c.ID, c.At, c.CPU.UsageNanos), Memory: memory(c.At, c.Memory)}
			for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
				for i := range list {
					if list[i].Name == c.Name && list[i].State.Running != nil {
						cs.StartTime = list[i].State.Running.StartedAt
					}
				}
			}
			if !brief {
				if d, err := a.dep.Runtime.DiskUsage(ctx, c.ID); err == nil {
					cs.Rootfs = &serve.FsStats{Time: metav1.NewTime(d.At), UsedBytes: &d.Bytes, InodesUsed: &d.Inodes}
				}
			}
			ps.Containers = append(ps.Containers, cs)
		}
		s.Pods = append(s.Pods, ps)
	}
	a.rates.keep(seen)
	return s, nil
}

func fsStats(at metav1.Time, d resource.Disk) *serve.FsStats {
	total, available, used := uint64(d.Total), uint64(d.Available), uint64(d.Total-d.Available)
	inodes, free := uint64(d.Inodes), uint64(d.InodesFree)
	taken := inodes - free
	return &serve.FsStats{Time: at, CapacityBytes: &total, AvailableBytes: &available, UsedBytes: &used, Inodes: &inodes, InodesFree: &free, InodesUsed: &taken}
}

// bootTime is when the machine started.
func bootTime() time.Time {
	for l := range lines("/proc/stat") {
		if v, ok := strings.CutPrefix(l, "btime "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Unix(n, 0)
		}
	}
	return time.Time{}
}

// machineCPU is the time that all cores have worked, in nanoseconds.
func machineCPU() uint64 {
	for l := range lines("/proc/stat") {
		f := strings.Fields(l)
		if len(f) < 9 || f[0] != "cpu" {
			continue
		}
		var ticks uint64
		for i, v := range f[1:9] {
			if i == 3 || i == 4 { // idle, iowait
				continue
			}
			n, _ := strconv.ParseUint(v, 10, 64)
			ticks += n
		}
		return ticks * uint64(time.Second) / 100
	}
	return 0
}

// lines reads a small file line by line.
func lines(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if !yield(sc.Text()) {
				return
			}
		}
	}
}
