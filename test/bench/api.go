package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
)

// placeholder stands in the body for the name of a pod, at the same length.
const placeholder = "pod-000000000"

// ordinaryPod is the body of a pod of ordinary size that no node takes: 2.7 KB
// of JSON.
func ordinaryPod() []byte {
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: placeholder, Labels: map[string]string{"app": "web", "tier": "front", "pod-template-hash": "5d4f8c7b9"},
			Annotations: map[string]string{"example.org/note": ""},
		},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody", ServiceAccountName: "default",
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
	for i := range 2 {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprintf("c%d", i), Image: "registry.example.org/team/web:v1.2.3", Args: []string{"--port", "8080", "--verbose"},
			Env: []corev1.EnvVar{
				{Name: "A", Value: "one"}, {Name: "B", Value: "two"},
				{Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
			},
			Ports: []corev1.ContainerPort{{Name: fmt.Sprintf("http%d", i), ContainerPort: int32(8080 + i)}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")},
				Limits:   corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("128Mi")},
			},
			VolumeMounts:   []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 5},
		})
	}
	body, err := json.Marshal(p)
	if err == nil {
		p.Annotations["example.org/note"] = string(bytes.Repeat([]byte("n"), max(0, 2700-len(body))))
		body, err = json.Marshal(p)
	}
	if err != nil {
		panic(fmt.Sprintf("a pod cannot be encoded: %v", err))
	}
	return body
}

// writers are many clients that create pods, each waiting for its answer.
type writers struct {
	clients []*http.Client
	url     string
	body    []byte
	next    atomic.Int64
}

func (c *cluster) writers(n int) (*writers, error) {
	w := &writers{url: c.config.Host + "/api/v1/namespaces/" + space + "/pods", body: ordinaryPod()}
	// Eight connections: each is shared by eight clients, as in a process that
	// has several workers.
	for range min(n, 8) {
		config := rest.CopyConfig(c.config)
		transport, err := rest.TransportFor(config)
		if err != nil {
			return nil, err
		}
		w.clients = append(w.clients, &http.Client{Transport: transport})
	}
	return w, nil
}

// create makes pods with n clients until stop says so, and returns how long each
// took, in milliseconds.
func (w *writers) create(ctx context.Context, n int, stop func(done int64) bool) ([]float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var done atomic.Int64
	took := make([][]float64, n)
	for i := range n {
		wg.Go(func() {
			client := w.clients[i%len(w.clients)]
			for ctx.Err() == nil && !stop(done.Add(1)) {
				name := fmt.Sprintf("pod-%09d", w.next.Add(1))
				begin := time.Now()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(bytes.Replace(w.body, []byte(placeholder), []byte(name), 1)))
				if err != nil {
					cancel(err)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Accept", "application/json")
				resp, err := client.Do(req)
				if err != nil {
					cancel(err)
					return
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusCreated {
					cancel(fmt.Errorf("a create was answered with %s: %.300s (%v)", resp.Status, answer, err))
					return
				}
				took[i] = append(took[i], float64(time.Since(begin).Microseconds())/1000)
			}
		})
	}
	wg.Wait()
	var all []float64
	for _, t := range took {
		all = append(all, t...)
	}
	return all, context.Cause(ctx)
}

func measureCreates(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const clients, window = 64, 3 * time.Second
	var rate, p99, cost []float64
	// A fresh cluster for each run: the second does not pay for the first's pods.
	for i := range runs {
		b.say("creates: %d of %d", i+1, runs)
		err := b.with(ctx, func(c *cluster) error {
			if err := c.namespace(ctx, space); err != nil {
				return err
			}
			w, err := c.writers(clients)
			if err != nil {
				return err
			}
			// Connections are made before the clock runs.
			if _, err := w.create(ctx, clients, func(done int64) bool { return done > 2*clients }); err != nil {
				return err
			}
			begin := time.Now()
			var took []float64
			used, err := c.cost(func() (err error) {
				took, err = w.create(ctx, clients, func(int64) bool { return time.Since(begin) > window })
				return err
			})
			if err != nil {
				return err
			}
			cost = append(cost, used.Seconds()*1e6/float64(len(took)))
			rate = append(rate, float64(len(took))/time.Since(begin).Seconds())
			p99 = append(p99, percentile(took, 99))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	b.note = fmt.Sprintf("the server's processor time: %.0f us a create; the rest of the machine's is the clients'", median(cost))
	return [][]float64{rate, p99}, nil
}

func measureList(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const pods, lists = 10_000, 10
	var ms []float64
	var all time.Duration
	var size int64
	err := b.with(ctx, func(c *cluster) error {
		if err := c.namespace(ctx, space); err != nil {
			return err
		}
		w, err := c.writers(64)
		if err != nil {
			return err
		}
		if _, err := w.create(ctx, 64, func(done int64) bool {
			if done%500 == 0 {
				b.say("list: %d of %d pods made", done, pods)
			}
			return done > pods
		}); err != nil {
			return err
		}
		for i := range runs {
			b.say("list: %d of %d", i+1, runs)
			var took []float64
			used, err := c.cost(func() error {
				for range lists {
					begin := time.Now()
					n, err := c.list(ctx, w.clients[0])
					if err != nil {
						return err
					}
					if n < pods*1000 {
						return fmt.Errorf("a list of %d pods has %d bytes only", pods, n)
					}
					size = n
					took = append(took, time.Since(begin).Seconds()*1000)
				}
				return nil
			})
			if err != nil {
				return err
			}
			all += used
			ms = append(ms, median(took))
		}
		return nil
	})
	b.note = fmt.Sprintf("%.1f MB; the server's processor time: %.0f ms a list", float64(size)/1e6, all.Seconds()*1000/float64(runs*lists))
	return [][]float64{ms}, err
}

// list reads all pods as protobuf and returns the answer's length.
func (c *cluster) list(ctx context.Context, client *http.Client) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.config.Host+"/api/v1/pods", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", "application/vnd.kubernetes.protobuf")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("a list was answered with %s", resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}
