package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const space = "bench"

// smallPod runs the built-in hello image.
func smallPod(name string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "hello", Image: "sagong.local/hello:v1"}},
		},
	}
}

// follower sees pods as any watcher does.
type follower struct {
	w     watch.Interface
	phase map[string]corev1.PodPhase
}

func (c *cluster) follow(ctx context.Context) (*follower, error) {
	w, err := c.api.CoreV1().Pods(space).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return &follower{w: w, phase: map[string]corev1.PodPhase{}}, nil
}

// until takes events until done, a function of what was seen, holds.
func (f *follower) until(ctx context.Context, what string, limit time.Duration, done func() bool) error {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for !done() {
		select {
		case e, ok := <-f.w.ResultChan():
			p, isPod := e.Object.(*corev1.Pod)
			switch {
			case !ok || !isPod:
				return errors.New("the watch of pods ended")
			case e.Type == watch.Deleted:
				delete(f.phase, p.Name)
			default:
				f.phase[p.Name] = p.Status.Phase
			}
		case <-timeout.C:
			return fmt.Errorf("%s: not within %v", what, limit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (f *follower) running() (n int) {
	for _, p := range f.phase {
		if p == corev1.PodRunning {
			n++
		}
	}
	return n
}

// warm runs one pod, so that the image is present.
func (c *cluster) warm(ctx context.Context, f *follower) error {
	_, err := c.one(ctx, f, "warm")
	return err
}

// one runs a pod and removes it; it returns the time from create to Running.
func (c *cluster) one(ctx context.Context, f *follower, name string) (time.Duration, error) {
	begin := time.Now()
	if _, err := c.api.CoreV1().Pods(space).Create(ctx, smallPod(name), metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	if err := f.until(ctx, "the pod runs", 30*time.Second, func() bool { return f.phase[name] == corev1.PodRunning }); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, c.clear(ctx, f)
}

// clear removes all pods and waits until they are gone.
func (c *cluster) clear(ctx context.Context, f *follower) error {
	if err := c.api.CoreV1().Pods(space).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return err
	}
	return f.until(ctx, "the pods are gone", time.Minute, func() bool { return len(f.phase) == 0 })
}

func measurePod(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const pods = 50
	var p50, p99 []float64
	var all time.Duration
	err := b.with(ctx, func(c *cluster) error {
		f, err := c.ready(ctx)
		if err != nil {
			return err
		}
		defer f.w.Stop()
		for i := range runs {
			var ms []float64
			used, err := c.cost(func() error {
				for n := range pods {
					b.say("pod: %d of %d, pod %d of %d", i+1, runs, n+1, pods)
					took, err := c.one(ctx, f, fmt.Sprintf("p%d-%d", i, n))
					if err != nil {
						return err
					}
					ms = append(ms, took.Seconds()*1000)
				}
				return nil
			})
			if err != nil {
				return err
			}
			all += used
			p50, p99 = append(p50, median(ms)), append(p99, percentile(ms, 99))
		}
		return nil
	})
	b.note = fmt.Sprintf("the server's processor time: %.1f ms a pod, its removal included", all.Seconds()*1000/float64(runs*pods))
	return [][]float64{p50, p99}, err
}

func (c *cluster) ready(ctx context.Context) (*follower, error) {
	if err := c.namespace(ctx, space); err != nil {
		return nil, err
	}
	f, err := c.follow(ctx)
	if err != nil {
		return nil, err
	}
	return f, c.warm(ctx, f)
}

func measurePods100(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const pods = 100
	var seconds []float64
	err := b.with(ctx, func(c *cluster) error {
		f, err := c.ready(ctx)
		if err != nil {
			return err
		}
		defer f.w.Stop()
		for i := range runs {
			b.say("pods-100: %d of %d", i+1, runs)
			begin := time.Now()
			created := make(chan error, pods)
			for n := range pods {
				go func() {
					_, err := c.api.CoreV1().Pods(space).Create(ctx, smallPod(fmt.Sprintf("p%d-%d", i, n)), metav1.CreateOptions{})
					created <- err
				}()
			}
			for range pods {
				err = errors.Join(err, <-created)
			}
			if err != nil {
				return err
			}
			if err := f.until(ctx, "100 pods run", time.Minute, func() bool { return f.running() == pods }); err != nil {
				return err
			}
			seconds = append(seconds, time.Since(begin).Seconds())
			if err := c.clear(ctx, f); err != nil {
				return err
			}
		}
		return nil
	}, "--max-pods", "250")
	return [][]float64{seconds}, err
}
