package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// placeholder stands in the body for the name of a pod, at the same length.
const placeholder = "pod-000000000"

// ordinaryPod is the body of a pod of ordinary size that no node takes: 2.7 KB
// of JSON.
func ordinaryPod() *corev1.Pod {
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
	p.Annotations["example.org/note"] = strings.Repeat("n", max(0, 2700-len(asJSON(p))))
	return p
}

// usualPod is a pod as a Deployment of one container makes it: as stored, with
// its service account's token and managed fields, it has 2.7 KB.
func usualPod() *corev1.Pod {
	p := ordinaryPod()
	p.Annotations, p.Spec.Volumes = nil, nil
	p.Spec.Containers = p.Spec.Containers[:1]
	c := &p.Spec.Containers[0]
	c.VolumeMounts, c.Args, c.ReadinessProbe, c.Env = nil, nil, nil, c.Env[:1]
	return p
}

func asJSON(o any) []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("cannot encode: %v", err)) // a type of the API always can be
	}
	return b
}

func asProtobuf(p *corev1.Pod) []byte {
	raw, err := p.Marshal()
	if err != nil {
		panic(fmt.Sprintf("cannot encode: %v", err))
	}
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}
	b, err := u.Marshal()
	if err != nil {
		panic(fmt.Sprintf("cannot encode: %v", err))
	}
	return append([]byte("k8s\x00"), b...)
}

// The media types of the API.
const (
	jsonType     = "application/json"
	protobufType = "application/vnd.kubernetes.protobuf"
)

func podName(i int64) string { return fmt.Sprintf("pod-%09d", i) }

func podPath(i int64, subresource string) string {
	return "/api/v1/namespaces/" + space + "/pods/" + podName(i) + subresource
}

// creating gives the call that makes pod i of a body.
func creating(contentType string, body []byte) func(i int64) call {
	return func(i int64) call {
		return call{
			method: http.MethodPost, path: "/api/v1/namespaces/" + space + "/pods", contentType: contentType, accept: contentType,
			body: bytes.Replace(body, []byte(placeholder), []byte(podName(i)), 1),
		}
	}
}

// numbered gives the calls from number first on, as long as more says so.
func numbered(first int64, f func(i int64) call, more func(n int64) bool) func() (call, bool) {
	var n atomic.Int64
	return func() (call, bool) {
		i := n.Add(1) - 1
		if !more(i) {
			return call{}, false
		}
		return f(first + i), true
	}
}

func upTo(limit int64) func(int64) bool { return func(n int64) bool { return n < limit } }

// fill makes pods 0 to n-1 in the namespace of the bench.
func (c *cluster) fill(ctx context.Context, l *load, n int64, p *corev1.Pod) error {
	if err := c.namespace(ctx, space); err != nil {
		return err
	}
	_, err := l.run(ctx, numbered(0, creating(protobufType, asProtobuf(p)), upTo(n)))
	return err
}

// measureRate returns what measures how many calls a second 64 clients have
// answered, on a fresh cluster for each run: the second does not pay for what
// the first has made. The calls begin with number pods, as many exist already.
func measureRate(pods int64, f func(i int64) call) func(context.Context, *bench, int) ([][]float64, error) {
	const clients, window = 64, 3 * time.Second
	return func(ctx context.Context, b *bench, runs int) ([][]float64, error) {
		var rate, p99, cost []float64
		for i := range runs {
			b.say("%d of %d", i+1, runs)
			err := b.with(ctx, func(c *cluster) error {
				l, err := newLoad(c.config, clients)
				if err != nil {
					return err
				}
				defer l.close()
				if err := c.fill(ctx, l, pods, ordinaryPod()); err != nil {
					return err
				}
				// What is done for the first time is done before the clock runs.
				const before = 2 * clients
				if _, err := l.run(ctx, numbered(pods, f, upTo(before))); err != nil {
					return err
				}
				begin := time.Now()
				var took []float64
				used, err := c.cost(func() (err error) {
					took, err = l.run(ctx, numbered(pods+before, f, func(int64) bool { return time.Since(begin) < window }))
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
		b.note = fmt.Sprintf("the server's processor time: %.0f us a call; the rest of the machine's is the clients'", median(cost))
		return [][]float64{rate, p99}, nil
	}
}

// measureList measures the list of 10,000 usual pods.
func measureList(contentType string) func(context.Context, *bench, int) ([][]float64, error) {
	const pods, lists = 10_000, 10
	return func(ctx context.Context, b *bench, runs int) ([][]float64, error) {
		var ms []float64
		var all time.Duration
		var size int64
		err := b.with(ctx, func(c *cluster) error {
			many, err := newLoad(c.config, 64)
			if err != nil {
				return err
			}
			defer many.close()
			if err := c.fill(ctx, many, pods, usualPod()); err != nil {
				return err
			}
			one, err := newLoad(c.config, 1)
			if err != nil {
				return err
			}
			defer one.close()
			list := func(int64) call { return call{method: http.MethodGet, path: "/api/v1/pods", accept: contentType} }
			for i := range runs {
				b.say("%d of %d", i+1, runs)
				var took []float64
				read := one.conns[0].received
				used, err := c.cost(func() (err error) {
					took, err = one.run(ctx, numbered(0, list, upTo(lists)))
					return err
				})
				if err != nil {
					return err
				}
				if size = (one.conns[0].received - read) / lists; size < pods*1000 {
					return fmt.Errorf("a list of %d pods has %d bytes only", pods, size)
				}
				all += used
				ms = append(ms, median(took))
			}
			return nil
		})
		b.note = fmt.Sprintf("%.1f MB; the server's processor time: %.0f ms a list", float64(size)/1e6, all.Seconds()*1000/float64(runs*lists))
		return [][]float64{ms}, err
	}
}

// getting, applying and reporting are calls on 2,000 pods that exist.
const existing = 2000

func getting(i int64) call {
	return call{method: http.MethodGet, path: podPath(i%existing, ""), accept: jsonType}
}

// applying changes one field each time.
func applying(i int64) call {
	return call{
		method: http.MethodPatch, path: podPath(i%existing, "?fieldManager=bench"), contentType: "application/apply-patch+yaml", accept: jsonType,
		body: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"round":"r%d"}}}`, podName(i%existing), i),
	}
}

// reporting is what a node agent writes when a pod's readiness changes.
func reporting(i int64) call {
	now := time.Now().UTC().Format(time.RFC3339)
	return call{
		method: http.MethodPatch, path: podPath(i%existing, "/status"), contentType: "application/strategic-merge-patch+json", accept: protobufType,
		body: fmt.Appendf(nil, `{"status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],"startTime":%q,"conditions":[{"type":"Ready","status":%q,"lastTransitionTime":%q},{"type":"ContainersReady","status":"True","lastTransitionTime":%q}]}}`,
			now, [...]string{"True", "False"}[i/existing%2], now, now),
	}
}
