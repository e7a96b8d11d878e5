package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sagong/kubelet/hooks"
	"sagong/kubelet/pod"
	"sagong/kubelet/serve"
	"sagong/runtime"
)

// Handler serves the kubelet's own interface. authorize, when not nil, is asked
// before each request; it is not needed where the caller has done so.
func (a *Agent) Handler(authorize func(*http.Request) error) http.Handler {
	return serve.New(serve.Options{Node: served{a}, Runtime: a.dep.Runtime, Log: a.log, Authorize: authorize, Metrics: a.dep.Metrics, Probes: a.probed})
}

// served shows the agent to the handler.
type served struct{ a *Agent }

// Healthy implements serve.Node.
func (s served) Healthy() error {
	select {
	case <-s.a.taken:
		return nil
	default:
		return errors.New("the agent is starting")
	}
}

// Pods implements serve.Node.
func (s served) Pods() []*corev1.Pod {
	s.a.mu.Lock()
	all := make([]*entry, 0, len(s.a.entries))
	for _, e := range s.a.entries {
		all = append(all, e)
	}
	s.a.mu.Unlock()
	out := make([]*corev1.Pod, 0, len(all))
	for _, e := range all {
		out = append(out, e.current())
	}
	slices.SortFunc(out, func(x, y *corev1.Pod) int {
		return strings.Compare(x.Namespace+"/"+x.Name, y.Namespace+"/"+y.Name)
	})
	return out
}

// current is the pod with the status that the agent computed last.
func (e *entry) current() *corev1.Pod {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.status == nil {
		return e.pod
	}
	p := *e.pod
	p.Status = *e.status
	return &p
}

func (a *Agent) entryOf(uid types.UID) *entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.entries[uid]
}

// Pod implements serve.Node.
func (s served) Pod(namespace, name, uid string) (*corev1.Pod, bool) {
	if uid != "" {
		e := s.a.entryOf(types.UID(uid))
		if e == nil {
			return nil, false
		}
		p := e.current()
		return p, p.Namespace == namespace && p.Name == name
	}
	if p, ok := s.a.pods.Get(namespace, name); ok {
		if e := s.a.entryOf(p.UID); e != nil {
			return e.current(), true
		}
		return p, true
	}
	return nil, false
}

// Container implements serve.Node.
func (s served) Container(p *corev1.Pod, name string, previous bool) (serve.Container, error) {
	m, ok := pod.Find(p, name)
	if !ok {
		return serve.Container{}, apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, p.Name))
	}
	var cs *corev1.ContainerStatus
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				cs = &list[i]
			}
		}
	}
	if cs == nil {
		return serve.Container{}, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is not available", name, p.Name))
	}
	last := cs.LastTerminationState.Terminated
	id, attempt := "", int(cs.RestartCount)
	switch {
	case previous:
		if last == nil || last.ContainerID == "" {
			return serve.Container{}, apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", name, p.Name))
		}
		id = last.ContainerID
		if cs.State.Waiting == nil {
			attempt--
		}
	case cs.State.Running != nil, cs.State.Terminated != nil && cs.ContainerID != "":
		id = cs.ContainerID
	case last != nil && last.ContainerID != "":
		id = last.ContainerID
	case cs.State.Waiting != nil:
		switch w := cs.State.Waiting; w.Reason {
		case "ErrImagePull":
			return serve.Container{}, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: image can't be pulled", name, p.Name))
		case "ImagePullBackOff":
			return serve.Container{}, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: trying and failing to pull image", name, p.Name))
		default:
			return serve.Container{}, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %v", name, p.Name, w.Reason))
		}
	default:
		return serve.Container{}, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start - no logs yet", name, p.Name))
	}
	c := serve.Container{ID: strings.TrimPrefix(id, "sagong://"), TTY: m.TTY, Stdin: m.Stdin,
		LogPath: hooks.LogPath(s.a.cfg.LogDir, hooks.IdentOf(p), name, attempt)}
	if e := s.a.entryOf(p.UID); e != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if at := e.attempt(name, c.ID); at != nil {
			c.Running = at.State == runtime.StateRunning
			if at.LogPath != "" {
				c.LogPath = at.LogPath
			}
		}
	}
	return c, nil
}

// Ended implements serve.Node.
func (s served) Ended(id string) <-chan struct{} {
	ch := make(chan struct{})
	a := s.a
	a.endMu.Lock()
	a.ends[id] = append(a.ends[id], ch)
	a.endMu.Unlock()
	// It may have ended before somebody listened.
	if st, err := a.dep.Runtime.Status(a.ctx, id); err != nil || st.State != runtime.StateRunning {
		a.announceEnd(id)
	}
	return ch
}

// announceEnd tells those who wait for the end of an attempt.
func (a *Agent) announceEnd(id string) {
	a.endMu.Lock()
	defer a.endMu.Unlock()
	for _, ch := range a.ends[id] {
		close(ch)
	}
	delete(a.ends, id)
}

// NetNS implements serve.Node.
func (s served) NetNS(p *corev1.Pod) (string, error) {
	if p.Spec.HostNetwork {
		return "", nil
	}
	ns, err := s.a.dep.Runtime.NetNSPath(string(p.UID))
	if err != nil {
		return "", fmt.Errorf("cannot find the network of pod %s: %w", p.Name, err)
	}
	return ns, nil
}

// Summary implements serve.Node.
func (s served) Summary(ctx context.Context, brief bool) (*serve.Summary, error) {
	return s.a.summary(ctx, brief)
}
