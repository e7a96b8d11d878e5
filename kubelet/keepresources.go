package kubelet

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/kubelet/resource"
	"sagong/runtime"
)

// imageInterval is how often the disk of images is looked at.
const imageInterval = 5 * time.Minute

// keepResources looks after memory, disk, images and logs until ctx ends: one
// look at everything each Interval.
func (a *Agent) keepResources(ctx context.Context) {
	tick := time.NewTicker(a.cfg.Resource.Interval)
	defer tick.Stop()
	var tracker resource.Tracker
	var images time.Time
	var weight uint64
	for {
		now := time.Now()
		weight = a.weighSlices(weight)
		a.relieve(ctx, &tracker, now)
		a.enforceStorage(ctx)
		a.rotateLogs(ctx)
		if now.Sub(images) >= imageInterval {
			images = now
			a.collectImages(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// signals is what the node has left.
func (a *Agent) signals() (resource.Signals, error) {
	var s resource.Signals
	var err error
	if s.Memory, err = resource.ReadMemory(); err != nil {
		return s, err
	}
	if s.Nodefs, err = resource.ReadDisk(a.cfg.Dir); err != nil {
		return s, err
	}
	s.Images = s.Nodefs
	if u, err := a.dep.Images.Usage(); err == nil && u.DiskTotal != s.Nodefs.Total {
		s.Images = resource.Disk{Total: u.DiskTotal, Available: u.DiskAvailable}
	}
	// "0.1 0.2 0.3 1/234 5678": the second figure after the slash is tasks.
	if f := strings.Fields(line("/proc/loadavg")); len(f) > 3 {
		_, tasks, _ := strings.Cut(f[3], "/")
		s.PIDs, _ = strconv.ParseInt(tasks, 10, 64)
		s.PIDLimit, _ = strconv.ParseInt(line("/proc/sys/kernel/pid_max"), 10, 64)
	}
	return s, nil
}

// relieve reports pressure and, while there is any, evicts one pod at a time.
func (a *Agent) relieve(ctx context.Context, t *resource.Tracker, now time.Time) {
	s, err := a.signals()
	if err != nil {
		a.log.Warn("cannot look at the node's resources", "err", err)
		return
	}
	short := resource.Shortages(s, a.cfg.Resource)
	p := t.Update(short, now, a.cfg.Resource)
	if old := a.pressure.Swap(&p); *old != p {
		a.log.Warn("the node's pressure has changed", "memory", p.Memory, "disk", p.Disk, "pids", p.PIDs)
		a.touchNode()
	}
	for _, sh := range short {
		if sh.Resource == "ephemeral-storage" || sh.Resource == "inodes" {
			freed, _, err := a.dep.Images.Collect(ctx, max(sh.Threshold-sh.Available, 1), 0)
			if err != nil && ctx.Err() == nil {
				a.log.Warn("cannot remove unused images", "err", err)
			}
			if freed > 0 {
				continue // look again before anybody is evicted
			}
		}
		if a.evictFor(ctx, sh) {
			return
		}
	}
}

// evictFor evicts the pod that is to go first when a resource is short.
func (a *Agent) evictFor(ctx context.Context, sh resource.Shortage) bool {
	var list []resource.Candidate
	for _, p := range (served{a}).Pods() {
		if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending || p.DeletionTimestamp != nil {
			continue
		}
		e := a.entryOf(p.UID)
		if e == nil || e.stopping() {
			continue
		}
		c := resource.Candidate{Pod: p}
		switch sh.Resource {
		case "memory", "pids":
			st, err := a.dep.Runtime.PodStats(ctx, string(p.UID))
			if err != nil {
				continue
			}
			c.Usage = int64(st.Pod.Memory.WorkingSet)
			if sh.Resource == "pids" {
				c.Usage = int64(st.Pod.Pids)
			}
		default:
			l := a.localStorage(ctx, e, p)
			for _, n := range l.EmptyDirs {
				c.Usage += n
			}
			for _, n := range l.Containers {
				c.Usage += n
			}
		}
		list = append(list, c)
	}
	v := resource.Victim(sh.Resource, list)
	if v == nil {
		return false
	}
	a.evict(v.Pod, resource.Why(sh, v))
	return true
}

// stopping says whether the pod is on its way out already.
func (e *entry) stopping() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.obs.StopSince.IsZero() || e.obs.Verdict != nil
}

// evict ends a pod at once.
func (a *Agent) evict(p *corev1.Pod, why string) {
	e := a.entryOf(p.UID)
	if e == nil {
		return
	}
	e.mu.Lock()
	if e.obs.Verdict == nil && e.obs.StopSince.IsZero() {
		zero := time.Duration(0)
		e.obs.Verdict = &pod.Verdict{Reason: "Evicted", Message: why, Grace: &zero, Disrupted: true}
		a.dep.Recorder.Eventf(e.pod, corev1.EventTypeWarning, "Evicted", "%s", why)
		a.log.Warn("evicting pod", "pod", e.String(), "why", why)
	}
	e.mu.Unlock()
	a.queue.Add(p.UID)
}

// enforceStorage evicts pods that exceed their limits of local storage.
func (a *Agent) enforceStorage(ctx context.Context) {
	for _, p := range (served{a}).Pods() {
		if !resource.StorageLimited(p) || p.Status.Phase != corev1.PodRunning {
			continue
		}
		e := a.entryOf(p.UID)
		if e == nil || e.stopping() {
			continue
		}
		if why := resource.OverLimit(p, a.localStorage(ctx, e, p)); why != "" {
			a.evict(p, why)
		}
	}
}

// localStorage measures what a pod has written on the node.
func (a *Agent) localStorage(ctx context.Context, e *entry, p *corev1.Pod) resource.Local {
	l := resource.Local{EmptyDirs: map[string]int64{}, Containers: map[string]int64{}}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.EmptyDir != nil {
			l.EmptyDirs[v.Name] = resource.Tree(filepath.Join(a.volumes.PodDir(p.UID), "volumes", "kubernetes.io~empty-dir", v.Name))
		}
	}
	for name, at := range e.newest() {
		if d, err := a.dep.Runtime.DiskUsage(ctx, at.ID); err == nil {
			l.Containers[name] += int64(d.Bytes)
		}
		if at.LogPath != "" {
			l.Containers[name] += resource.Tree(filepath.Dir(at.LogPath))
		}
	}
	return l
}

// newest is the newest attempt of each container.
func (e *entry) newest() map[string]runtime.ContainerStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]runtime.ContainerStatus, len(e.obs.Containers))
	for name, c := range e.obs.Containers {
		if n := len(c.Attempts); n > 0 {
			out[name] = c.Attempts[n-1].ContainerStatus
		}
	}
	return out
}

// rotateLogs gives each running container whose log has grown a new file.
func (a *Agent) rotateLogs(ctx context.Context) {
	a.mu.Lock()
	all := make([]*entry, 0, len(a.entries))
	for _, e := range a.entries {
		all = append(all, e)
	}
	a.mu.Unlock()
	for _, e := range all {
		for name, at := range e.newest() {
			if at.State != runtime.StateRunning || at.LogPath == "" {
				continue
			}
			_, err := resource.Rotate(at.LogPath, a.cfg.Resource, time.Now(), func() error { return a.dep.Runtime.ReopenLog(ctx, at.ID) })
			if err != nil && ctx.Err() == nil {
				a.log.Warn("cannot rotate log", "pod", e.String(), "container", name, "err", err)
			}
		}
	}
}

// collectImages removes unused images once the disk is fuller than ImageHigh,
// until it is as full as ImageLow.
func (a *Agent) collectImages(ctx context.Context) {
	u, err := a.dep.Images.Usage()
	if err != nil || u.DiskTotal <= 0 {
		return
	}
	c := a.cfg.Resource
	if float64(u.DiskTotal-u.DiskAvailable) < c.ImageHigh*float64(u.DiskTotal) {
		return
	}
	want := int64((1-c.ImageLow)*float64(u.DiskTotal)) - u.DiskAvailable
	freed, removed, err := a.dep.Images.Collect(ctx, want, c.ImageMinAge)
	if len(removed) > 0 {
		a.log.Info("removed unused images", "freed", freed, "images", removed)
		a.touchNode()
	}
	if err == nil && freed >= want || ctx.Err() != nil {
		return
	}
	if n, ok := a.nodes.Get("", a.cfg.NodeName); ok {
		a.dep.Recorder.Eventf(n, corev1.EventTypeWarning, "FreeDiskSpaceFailed", "Failed to garbage collect required amount of images. Attempted to free %d bytes, but only found %d bytes eligible to free.", want, freed)
	}
}

// removeLogs removes a log and what rotation made of it.
func removeLogs(path string) {
	os.Remove(path)
	for _, f := range resource.Rotated(path) {
		os.Remove(f)
	}
}
