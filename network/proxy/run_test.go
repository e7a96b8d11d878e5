package proxy

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// The proxy follows the API, and writes nothing before it knows everything.
func TestRunFollowsTheAPI(t *testing.T) {
	c := newCluster(t)
	pod, _ := c.pod(t, "client")
	_, ipA := c.pod(t, "a")
	_, ipB := c.pod(t, "b")
	// What a former process left.
	c.proxy.SetService(newService("web", "10.96.0.100"))
	c.proxy.SetEndpointSlice(endpoints("web", ipA))
	c.flush(t)
	c.proxy.Close()

	ready := make(chan struct{})
	c.cfg.Ready = ready
	c.open(t)
	api := fake.New(object.NewScheme(kinds.All()...))
	defer api.Close()
	for _, o := range []func() error{
		func() error { return api.Seed(newService("web", "10.96.0.100")) },
		func() error { return api.Seed(endpoints("web", ipA)) },
	} {
		if err := o(); err != nil {
			t.Fatal(err)
		}
	}
	hub := reconcile.NewHub(api, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	wg.Go(func() {
		if err := c.proxy.Run(ctx, hub); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	defer wg.Wait()
	defer cancel()
	pod.MustAsk(t, "tcp", "10.96.0.100:80")
	close(ready)

	// until asks again until the answer is as wanted.
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			got := "nothing"
			if c, err := pod.Dial("tcp", "10.96.0.100:80", 300*time.Millisecond); err == nil {
				got, _ = bufio.NewReader(c).ReadString('\n')
				c.Close()
			}
			if strings.HasPrefix(got, want) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	until("a ")
	slice, err := client.Get[*discoveryv1.EndpointSlice](ctx, api, "default", "web-1")
	if err != nil {
		t.Fatal(err)
	}
	moved := slice.DeepCopy()
	moved.Endpoints = endpoints("web", ipB).Endpoints
	if _, err := client.Update(ctx, api, moved); err != nil {
		t.Fatal(err)
	}
	until("b ")
	if err := client.Delete[*corev1.Service](ctx, api, "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until("nothing")
}
