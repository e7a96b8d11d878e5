package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// onFleet runs f on a server without a node of its own, beside simulated ones.
func (b *bench) onFleet(ctx context.Context, nodes, podsANode int, f func(*cluster, *fleet) error) error {
	return b.with(ctx, func(c *cluster) (err error) {
		if err := c.namespace(ctx, space); err != nil {
			return err
		}
		fl, err := c.simulate(ctx, nodes, podsANode)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, fl.kill()) }()
		return f(c, fl)
	}, "--no-agent")
}

// measure10k makes 10 Deployments of 1,000 pods on 1,000 nodes.
func measure10k(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	var seconds, cpu, memory []float64
	var fleetCPU time.Duration
	for i := range runs {
		b.say("10k: %d of %d", i+1, runs)
		err := b.onFleet(ctx, 1000, 110, func(c *cluster, f *fleet) error {
			before, err := f.cost()
			if err != nil {
				return err
			}
			if err := c.resetPeak(); err != nil {
				return err
			}
			var took time.Duration
			used, err := c.cost(func() (err error) { took, err = c.deploy(ctx, 10, 1000, 2*time.Minute); return err })
			if err != nil {
				return err
			}
			after, err := f.cost()
			if err != nil {
				return err
			}
			_, most, err := c.memory()
			seconds, cpu, memory = append(seconds, took.Seconds()), append(cpu, used.Seconds()), append(memory, most)
			fleetCPU += after - before
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	b.note = fmt.Sprintf("the simulated nodes took %.1f CPU-seconds more, on the same cores", fleetCPU.Seconds()/float64(runs))
	return [][]float64{seconds, cpu, memory}, nil
}

// measure100k makes 100 Deployments of 1,000 pods, leaves them alone, replaces
// some all the time, and lets a node die.
func measure100k(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const quiet, churn, perSecond = time.Minute, 5 * time.Minute, 20
	out := make([][]float64, 5)
	for range runs {
		err := b.onFleet(ctx, 1000, 250, func(c *cluster, _ *fleet) error {
			if err := c.resetPeak(); err != nil {
				return err
			}
			took, err := c.deploy(ctx, 100, 1000, 10*time.Minute)
			if err != nil {
				return err
			}
			_, most, err := c.memory()
			if err != nil {
				return err
			}
			b.say("100k: nothing happens for a minute")
			if err := pause(ctx, 15*time.Second); err != nil {
				return err
			}
			used, err := c.cost(func() error { return pause(ctx, quiet) })
			if err != nil {
				return err
			}
			bound, err := c.replace(ctx, churn, perSecond)
			if err != nil {
				return err
			}
			dead, err := c.nodeDies(ctx, "sim-7")
			if err != nil {
				return err
			}
			for i, v := range []float64{took.Seconds(), most, 100 * used.Seconds() / quiet.Seconds(), bound, dead.Seconds()} {
				out[i] = append(out[i], v)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// podEvents follows the pods of the namespace from now on.
func (c *cluster) podEvents(ctx context.Context) (watch.Interface, error) {
	one, err := c.api.CoreV1().Pods(space).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	return c.api.CoreV1().Pods(space).Watch(ctx, metav1.ListOptions{ResourceVersion: one.ResourceVersion})
}

// replace deletes pods at a steady rate, and returns the 99th percentile of the
// time between a new pod's creation and its binding, in milliseconds, as a
// watcher sees the two.
func (c *cluster) replace(ctx context.Context, length time.Duration, perSecond int) (float64, error) {
	list, err := c.api.CoreV1().Pods(space).List(ctx, metav1.ListOptions{Limit: int64(perSecond) * int64(length/time.Second)})
	if err != nil {
		return 0, err
	}
	w, err := c.podEvents(ctx)
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	made := map[string]time.Time{}
	var ms []float64
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	failed := make(chan error, 1)
	end := time.After(length + 5*time.Second)
	for next := 0; ; {
		select {
		case e, ok := <-w.ResultChan():
			p, isPod := e.Object.(*corev1.Pod)
			if !ok || !isPod {
				return 0, errors.New("the watch of pods ended")
			}
			switch at, waits := made[p.Name]; {
			case e.Type == watch.Added:
				made[p.Name] = time.Now()
			case waits && p.Spec.NodeName != "":
				ms = append(ms, time.Since(at).Seconds()*1000)
				delete(made, p.Name)
			}
		case <-tick.C:
			if next == len(list.Items) {
				continue
			}
			name := list.Items[next].Name
			next++
			if next%(perSecond*10) == 0 {
				c.b.say("100k: %d of %d pods replaced", next, len(list.Items))
			}
			go func() {
				if err := c.api.CoreV1().Pods(space).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}()
		case err := <-failed:
			return 0, err
		case <-end:
			if len(ms) < len(list.Items)*9/10 {
				return 0, fmt.Errorf("%d of %d replaced pods were bound", len(ms), len(list.Items))
			}
			return percentile(ms, 99), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// nodeDies deletes a node, which is the decision that it is dead for good, and
// returns how long its pods take to be made anew and bound elsewhere.
func (c *cluster) nodeDies(ctx context.Context, name string) (time.Duration, error) {
	c.b.say("100k: node %s dies", name)
	lost, err := c.api.CoreV1().Pods(space).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
	if err != nil {
		return 0, err
	}
	w, err := c.podEvents(ctx)
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	// Taken down first, or it would register again.
	if _, err := c.api.CoreV1().Nodes().Patch(ctx, name, "application/merge-patch+json", []byte(`{"metadata":{"annotations":{"simulate.sagong.io/state":"down"}},
		"spec":{"taints":[{"key":"node.kubernetes.io/out-of-service","effect":"NoExecute","value":"dead"}]}}`), metav1.PatchOptions{}); err != nil {
		return 0, err
	}
	begin, bound := time.Now(), map[string]bool{}
	limit := time.After(time.Minute)
	fresh := map[string]bool{}
	for len(bound) < len(lost.Items) {
		select {
		case e, ok := <-w.ResultChan():
			p, isPod := e.Object.(*corev1.Pod)
			if !ok || !isPod {
				return 0, errors.New("the watch of pods ended")
			}
			if e.Type == watch.Added {
				fresh[p.Name] = true
			}
			if fresh[p.Name] && p.Spec.NodeName != "" {
				bound[p.Name] = true
			}
		case <-limit:
			return 0, fmt.Errorf("%d of %d pods of a dead node were made anew and bound", len(bound), len(lost.Items))
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return time.Since(begin), nil
}

// measureNamespace deletes a namespace with 10,000 pods that run.
func measureNamespace(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	var seconds []float64
	for i := range runs {
		b.say("namespace: %d of %d", i+1, runs)
		err := b.onFleet(ctx, 1000, 110, func(c *cluster, _ *fleet) error {
			if _, err := c.deploy(ctx, 10, 1000, 2*time.Minute); err != nil {
				return err
			}
			w, err := c.api.CoreV1().Namespaces().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + space})
			if err != nil {
				return err
			}
			defer w.Stop()
			begin := time.Now()
			if err := c.api.CoreV1().Namespaces().Delete(ctx, space, metav1.DeleteOptions{}); err != nil {
				return err
			}
			limit := time.After(3 * time.Minute)
			for {
				select {
				case e, ok := <-w.ResultChan():
					if !ok {
						return errors.New("the watch of the namespace ended")
					}
					if e.Type == watch.Deleted {
						seconds = append(seconds, time.Since(begin).Seconds())
						return nil
					}
				case <-limit:
					return errors.New("the namespace is not gone after 3 min")
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return [][]float64{seconds}, nil
}

// measureStored looks at a server that holds 100,000 pods and 5,000 nodes: its
// memory when the history has gone, its restart, and clients that start cold.
func measureStored(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const informers = 16
	out := make([][]float64, 3)
	for range runs {
		err := b.onFleet(ctx, 5000, 110, func(c *cluster, _ *fleet) error {
			if _, err := c.deploy(ctx, 100, 1000, 10*time.Minute); err != nil {
				return err
			}
			b.say("stored: the history goes, within six minutes")
			if err := pause(ctx, 6*time.Minute); err != nil {
				return err
			}
			rest, _, err := c.memory()
			if err != nil {
				return err
			}
			b.say("stored: %d clients start", informers)
			if err := c.resetPeak(); err != nil {
				return err
			}
			if err := c.coldInformers(ctx, informers); err != nil {
				return err
			}
			_, most, err := c.memory()
			if err != nil {
				return err
			}
			b.say("stored: restart")
			if err := c.sagong(ctx, "down", "--data-dir", c.data()); err != nil {
				return err
			}
			begin := time.Now()
			if err := c.up(ctx); err != nil {
				return err
			}
			for i, v := range []float64{rest, time.Since(begin).Seconds(), most - rest} {
				out[i] = append(out[i], v)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// coldInformers has clients take in all pods at once, as informers do: the
// present ones as the first events of a watch. They keep nothing.
func (c *cluster) coldInformers(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	ended := make(chan error, n)
	for range n {
		go func() { ended <- c.coldInformer(ctx) }()
	}
	var err error
	for range n {
		err = errors.Join(err, <-ended)
	}
	return err
}

func (c *cluster) coldInformer(ctx context.Context) error {
	client, err := rest.HTTPClientFor(rest.CopyConfig(c.config))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		c.config.Host+"/api/v1/pods?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/vnd.kubernetes.protobuf;stream=watch")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// The bookmark that ends the first events carries this annotation; it may lie
	// across two reads.
	end := []byte("k8s.io/initial-events-end")
	buf, kept := make([]byte, 64<<10), 0
	for {
		n, err := resp.Body.Read(buf[kept:])
		if bytes.Contains(buf[:kept+n], end) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the first events of a watch ended early: %w", err)
		}
		all := kept + n
		kept = min(all, len(end)-1)
		copy(buf, buf[all-kept:all])
	}
}
