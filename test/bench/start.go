package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func measureUp(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	var seconds, cpu []float64
	for i := range runs {
		b.say("up: %d of %d", i+1, runs)
		begin := time.Now()
		err := b.with(ctx, func(c *cluster) error {
			seconds = append(seconds, time.Since(begin).Seconds())
			pid, err := c.pid()
			if err != nil {
				return err
			}
			used, err := processorTime(pid)
			cpu = append(cpu, used.Seconds()*1000)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	b.note = fmt.Sprintf("the server's processor time: %.0f ms", median(cpu))
	return [][]float64{seconds}, nil
}

func measureFirstPod(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	manifest, err := filepath.Abs("examples/hello.yaml")
	if err != nil {
		return nil, err
	}
	var seconds []float64
	for i := range runs {
		b.say("first-pod: %d of %d", i+1, runs)
		begin := time.Now()
		err := b.with(ctx, func(c *cluster) error {
			// What the API server has to do for this watch is part of the time.
			w, err := c.api.CoreV1().Pods("demo").Watch(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			defer w.Stop()
			if err := c.sagong(ctx, "kubectl", "apply", "-f", manifest); err != nil {
				return err
			}
			deadline := time.After(30 * time.Second)
			for {
				select {
				case e, ok := <-w.ResultChan():
					if !ok {
						return fmt.Errorf("the watch of pods ended")
					}
					if p, ok := e.Object.(*corev1.Pod); ok && condition(p, corev1.PodReady) {
						seconds = append(seconds, time.Since(begin).Seconds())
						return nil
					}
				case <-deadline:
					return fmt.Errorf("no pod was Ready within 30 s")
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

func condition(p *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// measureIdle looks at a server five seconds after its start, for 20 s.
func measureIdle(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const settle, window = 5 * time.Second, 20 * time.Second
	var memory, load []float64
	for i := range runs {
		err := b.with(ctx, func(c *cluster) error {
			pid, err := c.pid()
			if err != nil {
				return err
			}
			wait := func(d time.Duration) error {
				for end := time.Now().Add(d); time.Now().Before(end); {
					b.say("idle: %d of %d, %.0f s to go", i+1, runs, time.Until(end).Seconds())
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-time.After(min(time.Second, time.Until(end))):
					}
				}
				return nil
			}
			if err := wait(settle); err != nil {
				return err
			}
			before, err := processorTime(pid)
			if err != nil {
				return err
			}
			begin := time.Now()
			if err := wait(window); err != nil {
				return err
			}
			after, err := processorTime(pid)
			if err != nil {
				return err
			}
			load = append(load, 100*(after-before).Seconds()/time.Since(begin).Seconds())
			rss, err := resident(pid)
			memory = append(memory, rss/1e6)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return [][]float64{memory, load}, nil
}
