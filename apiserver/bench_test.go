package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver"
	engine "sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// examplePod is a pod of ordinary size, some 2.5 KB of JSON.
func examplePod(name string) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", Labels: map[string]string{"app": "web", "tier": "front", "pod-template-hash": "5d4f8c7b9"},
			Annotations:     map[string]string{"example.org/note": strings.Repeat("note ", 20)},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4f8c7b9", UID: "5f6f9a62-0f6b-4a53-8f4e-7d8d2f2c1a11"}},
		},
		Spec: corev1.PodSpec{ServiceAccountName: "default"},
	}
	for i := range 2 {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprintf("c%d", i), Image: "registry.example.org/team/web:v1.2.3", Args: []string{"--port", "8080", "--verbose"},
			Env:   []corev1.EnvVar{{Name: "A", Value: "one"}, {Name: "B", Value: "two"}, {Name: "NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
			Ports: []corev1.ContainerPort{{Name: fmt.Sprintf("http%d", i), ContainerPort: int32(8080 + i)}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")},
				Limits:   corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("128Mi")},
			},
			VolumeMounts:   []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}, PeriodSeconds: 5},
		})
		p.Spec.Containers[i].ReadinessProbe.TCPSocket.Port.IntVal = 8080
	}
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	return p
}

func benchServer(b *testing.B, fields bool) *apiserver.Server {
	s := store.OpenMemory(store.Options{Tag: engine.Tag})
	o := engine.Options{Store: s, Scheme: object.NewScheme(kinds.All()...)}
	if fields {
		o.Fields = object.NewFieldManagers()
	}
	srv := apiserver.New(apiserver.Options{Engine: engine.New(o)})
	b.Cleanup(func() { s.Close() })
	return srv
}

type sink struct {
	h    http.Header
	code int
	n    int
}

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) Write(b []byte) (int, error) { s.n += len(b); return len(b), nil }
func (s *sink) WriteHeader(code int)        { s.code = code }

func send(b *testing.B, srv http.Handler, r *http.Request, want int) int {
	w := &sink{h: http.Header{}, code: 200}
	srv.ServeHTTP(w, r)
	if w.code != want {
		b.Fatalf("%s %s: %d, want %d", r.Method, r.URL, w.code, want)
	}
	return w.n
}

func podRequest(name, media string) *http.Request {
	p := examplePod(name)
	var body []byte
	if media == "application/json" {
		body, _ = json.Marshal(p)
	} else {
		msg, err := object.Marshal(p)
		if err != nil {
			panic(err)
		}
		body = append(object.AppendEnvelope(nil, "v1", "Pod", len(msg)), msg...)
	}
	r := httptest.NewRequest("POST", "/api/v1/namespaces/default/pods", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", media)
	r.Header.Set("Accept", media)
	r.Header.Set("User-Agent", "bench/v1")
	return r
}

func BenchmarkCreate(b *testing.B) {
	for _, fields := range []bool{false, true} {
		for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
			b.Run(fmt.Sprintf("%s/fields=%v", strings.TrimPrefix(media, "application/"), fields), func(b *testing.B) {
				srv := benchServer(b, fields)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					n++
					send(b, srv, podRequest(fmt.Sprintf("p%d", n), media), 201)
				}
			})
		}
	}
}

func BenchmarkApply(b *testing.B) {
	const pods = 100
	srv := benchServer(b, true)
	for i := range pods {
		send(b, srv, podRequest(fmt.Sprintf("p%d", i), "application/json"), 201)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		name := fmt.Sprintf("p%d", n%pods)
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"round":"r%d"}}}`, name, n)
		r := httptest.NewRequest("PATCH", "/api/v1/namespaces/default/pods/"+name+"?fieldManager=bench", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
		r.Header.Set("Accept", "application/json")
		send(b, srv, r, 200)
		n++
	}
}

func BenchmarkList10k(b *testing.B) {
	for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		b.Run(strings.TrimPrefix(media, "application/"), func(b *testing.B) {
			srv := benchServer(b, false)
			for i := range 10000 {
				send(b, srv, podRequest(fmt.Sprintf("p%d", i), "application/vnd.kubernetes.protobuf"), 201)
			}
			for b.Loop() {
				r := httptest.NewRequest("GET", "/api/v1/pods", nil)
				r.Header.Set("Accept", media)
				b.SetBytes(int64(send(b, srv, r, 200)))
			}
		})
	}
}

// watchSink counts the bytes of a watch.
type watchSink struct {
	sink
	got *atomic.Int64
}

func (s *watchSink) Write(b []byte) (int, error) {
	s.got.Add(int64(bytes.Count(b, []byte("\n"))))
	return len(b), nil
}
func (s *watchSink) Flush() {}

// BenchmarkWatch: 1,000 watchers of all pods; one operation is one event to one
// watcher.
func BenchmarkWatch(b *testing.B) {
	const watchers = 1000
	srv := benchServer(b, false)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	defer func() {
		cancel()
		wait.Wait()
	}()
	var got atomic.Int64
	for range watchers {
		wait.Go(func() {
			r := httptest.NewRequest("GET", "/api/v1/pods?watch=1&resourceVersion=1", nil).WithContext(ctx)
			srv.ServeHTTP(&watchSink{sink{h: http.Header{}}, &got}, r)
		})
	}
	n := 0
	b.ResetTimer()
	for i := 0; i < b.N; i += watchers {
		n++
		send(b, srv, podRequest(fmt.Sprintf("p%d", n), "application/vnd.kubernetes.protobuf"), 201)
	}
	for got.Load() < int64(n*watchers) {
		runtime.Gosched()
	}
	b.ReportMetric(float64(n*watchers)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkCreateHTTP2 creates pods over TLS and HTTP/2 from 64 clients.
func BenchmarkCreateHTTP2(b *testing.B) {
	for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		b.Run(strings.TrimPrefix(media, "application/"), func(b *testing.B) {
			hs := httptest.NewUnstartedServer(benchServer(b, true))
			hs.EnableHTTP2 = true
			hs.StartTLS()
			defer hs.Close()
			client := hs.Client()
			var n atomic.Int64
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := podRequest(fmt.Sprintf("p%d", n.Add(1)), media)
					u, err := url.Parse(hs.URL + r.URL.Path)
					if err != nil {
						b.Error(err)
						return
					}
					r.URL, r.Host, r.RequestURI = u, "", ""
					resp, err := client.Do(r)
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 201 {
						b.Errorf("%d", resp.StatusCode)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "creates/s")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	srv := benchServer(b, false)
	send(b, srv, podRequest("p", "application/json"), 201)
	r := httptest.NewRequest("GET", "/api/v1/namespaces/default/pods/p", nil)
	b.ReportAllocs()
	for b.Loop() {
		send(b, srv, r, 200)
	}
}
