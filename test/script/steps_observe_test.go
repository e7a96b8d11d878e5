package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// observer follows the pods of a namespace as the API publishes them and keeps
// the extremes: how many there were, and how few of them were ready.
type observer struct {
	stop context.CancelFunc
	done chan struct{}
	err  error

	mu         sync.Mutex
	pods       map[string]*corev1.Pod
	settled    bool // as many were ready once as must be from then on
	most       int
	least      int
	want       int
	deviations []string
}

// observe start NAMESPACE SELECTOR READY: follows pods; the script says that
// READY of them are ready now. observe stop MAX MIN: at each instant there were at
// most MAX pods that were not on their way out and at least MIN of them ready.
func observe(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case len(args) == 4 && args[0] == "start":
		want, err := strconv.Atoi(args[3])
		ts.Check(err)
		ctx, cancel := context.WithCancel(context.Background())
		o := &observer{stop: cancel, done: make(chan struct{}), pods: map[string]*corev1.Pod{}, want: want}
		cmd := command0(ts, []string{"sagong", "kubectl", "-n", args[1], "get", "pods", "-l", args[2], "-w", "--output-watch-events", "-o", "json"})
		out, err := cmd.StdoutPipe()
		ts.Check(err)
		ts.Check(cmd.Start())
		ready := make(chan struct{})
		go func() {
			defer close(o.done)
			o.follow(out, ready)
			_ = cmd.Wait()
		}()
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		ts.Defer(func() { cancel(); <-o.done; stop() })
		values(ts)["observer"] = o
		select {
		case <-ready:
		case <-o.done:
			ts.Fatalf("the watch ended: %v", o.err)
		}
	case len(args) == 3 && args[0] == "stop":
		o := values(ts)["observer"].(*observer)
		o.stop()
		<-o.done
		most, err := strconv.Atoi(args[1])
		ts.Check(err)
		least, err := strconv.Atoi(args[2])
		ts.Check(err)
		ts.Logf("at most %d pods, at least %d ready", o.most, o.least)
		if o.err != nil || o.most > most || o.least < least {
			ts.Fatalf("there were up to %d pods (allowed %d) and down to %d ready (needed %d); %v", o.most, most, o.least, least, o.err)
		}
	default:
		ts.Fatalf("usage: observe start NAMESPACE SELECTOR READY | observe stop MAX MIN")
	}
}

func (o *observer) follow(r io.Reader, ready chan struct{}) {
	dec := json.NewDecoder(r)
	for {
		var ev metav1.WatchEvent
		if err := dec.Decode(&ev); err != nil {
			if !errors.Is(err, io.EOF) && !o.settled {
				o.err = err
			}
			return
		}
		pod := &corev1.Pod{}
		if err := json.Unmarshal(ev.Object.Raw, pod); err != nil {
			o.err = fmt.Errorf("cannot read an event: %w", err)
			return
		}
		if o.see(ev.Type, pod) {
			close(ready)
		}
	}
}

// see takes one change and reports whether all that must be ready was so for
// the first time.
func (o *observer) see(kind string, pod *corev1.Pod) bool {
	if kind == "DELETED" {
		delete(o.pods, pod.Name)
	} else {
		o.pods[pod.Name] = pod
	}
	live, ready := 0, 0
	for _, p := range o.pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		live++
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if !o.settled {
		if ready != o.want {
			return false
		}
		o.settled, o.most, o.least = true, live, ready
		return true
	}
	o.most, o.least = max(o.most, live), min(o.least, ready)
	return false
}
