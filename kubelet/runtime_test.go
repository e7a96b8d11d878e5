package kubelet_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"sagong/kubelet"
	"sagong/runtime"
	"sagong/runtime/image"
)

// fakeRuntime keeps sandboxes and containers in memory. A container runs until
// the test ends it, or it is stopped.
type fakeRuntime struct {
	runtime.Runtime // panics on what a test did not expect

	mu        sync.Mutex
	sandboxes map[string]*runtime.SandboxStatus
	stops     map[string]chan struct{} // closed when a container has exited
	events    chan runtime.Event
	most      map[string]int // how many instances of a container ran at once
	exec      func(id string, args []string) (int, string)
	startErr  map[string]error // by container name
	ignores   map[string]bool  // containers that ignore SIGTERM
	instant   map[string]int   // containers that exit at once, with this code
	killed    []string         // names in the order they were told to stop
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{sandboxes: map[string]*runtime.SandboxStatus{}, stops: map[string]chan struct{}{}, events: make(chan runtime.Event, 1<<16),
		most: map[string]int{}, startErr: map[string]error{}, ignores: map[string]bool{}, instant: map[string]int{}}
}

func (f *fakeRuntime) Name() string                 { return "sagong://test" }
func (f *fakeRuntime) Close() error                 { return nil }
func (f *fakeRuntime) Events() <-chan runtime.Event { return f.events }

// reopened is the same machine under a new process: events that nobody read
// are gone.
func (f *fakeRuntime) reopened() *fakeRuntime {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := newFakeRuntime()
	n.sandboxes, n.stops, n.most, n.exec, n.startErr, n.ignores, n.instant = f.sandboxes, f.stops, f.most, f.exec, f.startErr, f.ignores, f.instant
	return n
}

func (f *fakeRuntime) emit(t runtime.EventType, c runtime.ContainerStatus) {
	f.events <- runtime.Event{Type: t, SandboxUID: c.SandboxUID, ContainerID: c.ID, Container: c, At: time.Now()}
}

func (f *fakeRuntime) CreateSandbox(ctx context.Context, s runtime.Sandbox) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sandboxes[s.UID] == nil {
		f.sandboxes[s.UID] = &runtime.SandboxStatus{Sandbox: s, Ready: true, CreatedAt: time.Now(), NetNSPath: "/ns/" + s.UID}
	}
	return nil
}

func (f *fakeRuntime) NetNSPath(uid string) (string, error) { return "/ns/" + uid, nil }

func (f *fakeRuntime) UpdateSandbox(ctx context.Context, uid string, r runtime.Resources) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sb := f.sandboxes[uid]; sb != nil {
		sb.Sandbox.Resources = r
	}
	return nil
}

func (f *fakeRuntime) UpdateResources(ctx context.Context, id string, r runtime.Resources) error {
	return nil
}

func (f *fakeRuntime) RemoveSandbox(ctx context.Context, uid string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sandboxes, uid)
	return nil
}

// find returns a container; mu is held.
func (f *fakeRuntime) find(id string) *runtime.ContainerStatus {
	for _, sb := range f.sandboxes {
		for i := range sb.Containers {
			if sb.Containers[i].ID == id {
				return &sb.Containers[i]
			}
		}
	}
	return nil
}

func (f *fakeRuntime) CreateContainer(ctx context.Context, c runtime.Container) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.find(c.ID) != nil {
		return runtime.ErrExists
	}
	sb := f.sandboxes[c.SandboxUID]
	if sb == nil {
		return runtime.ErrNotFound
	}
	sb.Containers = append(sb.Containers, runtime.ContainerStatus{
		ID: c.ID, SandboxUID: c.SandboxUID, Name: c.Name, Attempt: c.Attempt, Image: c.Image, ImageID: c.ImageID, LogPath: c.LogPath,
		Labels: c.Labels, Annotations: c.Annotations, State: runtime.StateCreated, CreatedAt: time.Now(),
	})
	f.emit(runtime.EventCreated, sb.Containers[len(sb.Containers)-1])
	return nil
}

func (f *fakeRuntime) StartContainer(ctx context.Context, id string) (runtime.Started, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.find(id)
	if c == nil {
		return runtime.Started{}, runtime.ErrNotFound
	}
	if err := f.startErr[c.Name]; err != nil {
		c.State, c.ExitCode, c.Reason, c.Message, c.FinishedAt = runtime.StateExited, 128, "StartError", err.Error(), time.Now()
		f.emit(runtime.EventExited, *c)
		return runtime.Started{}, &runtime.StartError{Step: "exec", Err: err}
	}
	c.State, c.PID, c.StartedAt = runtime.StateRunning, 42, time.Now()
	f.stops[id] = make(chan struct{})
	running := 0
	for _, o := range f.sandboxes[c.SandboxUID].Containers {
		if o.Name == c.Name && o.State == runtime.StateRunning {
			running++
		}
	}
	f.most[c.Name] = max(f.most[c.Name], running)
	f.emit(runtime.EventStarted, *c)
	if code, ok := f.instant[c.Name]; ok {
		f.end(c, code)
	}
	return runtime.Started{PID: 42, At: c.StartedAt}, nil
}

// end makes a container exit; mu is held.
func (f *fakeRuntime) end(c *runtime.ContainerStatus, code int) {
	if c == nil || c.State != runtime.StateRunning {
		return
	}
	c.State, c.ExitCode, c.FinishedAt, c.PID = runtime.StateExited, code, time.Now(), 0
	close(f.stops[c.ID])
	f.emit(runtime.EventExited, *c)
}

// exit ends the running instance of a container by name.
func (f *fakeRuntime) exit(uid, name string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.sandboxes[uid].Containers {
		if c := &f.sandboxes[uid].Containers[i]; c.Name == name && c.State == runtime.StateRunning {
			f.end(c, code)
		}
	}
}

// lose kills a sandbox's keeper.
func (f *fakeRuntime) lose(uid string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sb := f.sandboxes[uid]
	sb.Ready = false
	for i := range sb.Containers {
		if c := &sb.Containers[i]; c.State == runtime.StateRunning {
			c.State, c.ExitCode, c.FinishedAt, c.Reason = runtime.StateUnknown, 137, time.Now(), "ContainerStatusUnknown"
			close(f.stops[c.ID])
		}
	}
	f.events <- runtime.Event{Type: runtime.EventSandboxLost, SandboxUID: uid, At: time.Now()}
}

func (f *fakeRuntime) StopContainer(ctx context.Context, id string, s runtime.Stop) error {
	f.mu.Lock()
	c := f.find(id)
	if c == nil {
		f.mu.Unlock()
		return runtime.ErrNotFound
	}
	name := c.Name
	f.killed = append(f.killed, name)
	done := f.stops[id]
	if !f.ignores[name] {
		f.end(c, 0)
	}
	f.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
	case <-time.After(s.Grace):
		f.mu.Lock()
		f.end(f.find(id), 137)
		f.mu.Unlock()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (f *fakeRuntime) RemoveContainer(ctx context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sb := range f.sandboxes {
		for i, c := range sb.Containers {
			if c.ID == id {
				if c.State == runtime.StateRunning {
					return runtime.ErrRunning
				}
				sb.Containers = append(sb.Containers[:i:i], sb.Containers[i+1:]...)
				f.emit(runtime.EventRemoved, c)
				return nil
			}
		}
	}
	return nil
}

func (f *fakeRuntime) ResolveUser(ctx context.Context, root runtime.Rootfs, user string) (runtime.User, error) {
	var u runtime.User
	fmt.Sscan(user, &u.UID)
	return u, nil
}

func (f *fakeRuntime) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	f.mu.Lock()
	run := f.exec
	f.mu.Unlock()
	if run == nil {
		return 0, nil
	}
	code, out := run(id, o.Args)
	if o.Stdout != nil {
		io.WriteString(o.Stdout, out)
	}
	return code, nil
}

func (f *fakeRuntime) List(ctx context.Context) ([]runtime.SandboxStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []runtime.SandboxStatus
	for _, sb := range f.sandboxes {
		c := *sb
		c.Containers = append([]runtime.ContainerStatus(nil), sb.Containers...)
		out = append(out, c)
	}
	return out, nil
}

func (f *fakeRuntime) Status(ctx context.Context, id string) (runtime.ContainerStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(id); c != nil {
		return *c, nil
	}
	return runtime.ContainerStatus{}, runtime.ErrNotFound
}

func (f *fakeRuntime) PodStats(ctx context.Context, uid string) (runtime.PodStats, error) {
	return runtime.PodStats{UID: uid}, nil
}

func (f *fakeRuntime) DiskUsage(ctx context.Context, id string) (runtime.DiskUsage, error) {
	return runtime.DiskUsage{}, nil
}

// fakeImages has every image but those whose name begins with "missing".
type fakeImages struct {
	mu   sync.Mutex
	pins map[string]string
}

func (f *fakeImages) image(ref string) (*image.Image, error) {
	r, err := image.ParseReference(ref)
	if err != nil {
		return nil, err
	}
	if r.Path == "library/missing" {
		return nil, fmt.Errorf("cannot find image %q: %w", ref, image.ErrNotFound)
	}
	return &image.Image{ID: "sha256:abc", RepoTags: []string{r.String()}, Config: image.Config{Cmd: []string{"/run"}}}, nil
}

func (f *fakeImages) Get(ref string) (*image.Image, error) { return f.image(ref) }

func (f *fakeImages) Pull(ctx context.Context, ref string, o image.PullOptions) (*image.Image, error) {
	return f.image(ref)
}

func (f *fakeImages) Use(ctx context.Context, ref, owner string) (*image.Image, error) {
	img, err := f.image(ref)
	if err == nil {
		f.mu.Lock()
		f.pins[owner] = ref
		f.mu.Unlock()
	}
	return img, err
}

func (f *fakeImages) Release(owner string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pins, owner)
	return nil
}

func (f *fakeImages) Pins() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]string{}
	for k, v := range f.pins {
		out[k] = v
	}
	return out
}

func (f *fakeImages) List() ([]*image.Image, error) { return nil, nil }

func (f *fakeImages) Usage() (image.Usage, error) {
	return image.Usage{DiskTotal: 100, DiskAvailable: 90}, nil
}

func (f *fakeImages) Collect(ctx context.Context, free int64, minAge time.Duration) (int64, []string, error) {
	return 0, nil, nil
}

// fakeNetwork gives addresses in turn.
type fakeNetwork struct {
	mu   sync.Mutex
	n    byte
	held map[string]netip.Addr
}

func (f *fakeNetwork) Attach(ctx context.Context, key, netns string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ip, ok := f.held[key]; ok {
		return []netip.Addr{ip}, nil
	}
	f.n++
	f.held[key] = netip.AddrFrom4([4]byte{10, 244, 0, f.n})
	return []netip.Addr{f.held[key]}, nil
}

func (f *fakeNetwork) Detach(ctx context.Context, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.held, key)
	return nil
}

func (f *fakeNetwork) Retain(ctx context.Context, keys []string) error { return nil }

var _ kubelet.Network = (*fakeNetwork)(nil)
var _ kubelet.ImageStore = (*fakeImages)(nil)
