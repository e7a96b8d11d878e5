package controller_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

var errChaos = errors.New("connection lost")

// chaos is a client whose writes fail before or after they were done, and whose
// watches are late and break off, at random.
type chaos struct {
	client.Client
	mu   sync.Mutex
	rng  *rand.Rand
	calm bool
}

func (c *chaos) roll(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.calm && c.rng.IntN(n) == 0
}

func (c *chaos) Create(ctx context.Context, d *object.Definition, o object.Object) (object.Object, error) {
	if c.roll(8) {
		return nil, errChaos
	}
	made, err := c.Client.Create(ctx, d, o)
	if c.roll(8) {
		return nil, errChaos
	}
	return made, err
}

func (c *chaos) Update(ctx context.Context, d *object.Definition, o object.Object, sub string) (object.Object, error) {
	if c.roll(8) {
		return nil, errChaos
	}
	made, err := c.Client.Update(ctx, d, o, sub)
	if c.roll(8) {
		return nil, errChaos
	}
	return made, err
}

func (c *chaos) Patch(ctx context.Context, d *object.Definition, ns, name string, p client.Patch) (object.Object, error) {
	if c.roll(8) {
		return nil, errChaos
	}
	made, err := c.Client.Patch(ctx, d, ns, name, p)
	if c.roll(8) {
		return nil, errChaos
	}
	return made, err
}

func (c *chaos) Delete(ctx context.Context, d *object.Definition, ns, name string, o metav1.DeleteOptions) error {
	if c.roll(8) {
		return errChaos
	}
	err := c.Client.Delete(ctx, d, ns, name, o)
	if c.roll(8) {
		return errChaos
	}
	return err
}

// Batch does only the first part of some batches, as a crash in between would.
func (c *chaos) Batch(ctx context.Context, writes []client.Write) []client.Result {
	n := len(writes)
	if c.roll(4) {
		c.mu.Lock()
		n = c.rng.IntN(len(writes) + 1)
		c.mu.Unlock()
	}
	results := make([]client.Result, len(writes))
	copy(results, c.Client.Batch(ctx, writes[:n]))
	for i := range results {
		if i >= n || c.roll(10) {
			results[i] = client.Result{Err: errChaos}
		}
	}
	return results
}

func (c *chaos) Watch(ctx context.Context, d *object.Definition, ns string, o client.WatchOptions) (client.Watch, error) {
	w, err := c.Client.Watch(ctx, d, ns, o)
	if err != nil {
		return nil, err
	}
	return &chaosWatch{w, c, nil}, nil
}

type chaosWatch struct {
	client.Watch
	c    *chaos
	last []client.Event
}

func (w *chaosWatch) Next(ctx context.Context) ([]client.Event, error) {
	switch {
	case w.c.roll(20):
		return nil, apierrors.NewResourceExpired("too old")
	case w.c.roll(20):
		return nil, errChaos
	}
	events, err := w.Watch.Next(ctx)
	if w.c.roll(2) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.IntN(3)) * time.Millisecond): // lateness itself, not a wait for something
		}
	}
	return events, err
}

// TestChaosReachesTheSameEnd rolls out, scales and deletes while writes get
// lost, views are late and the controllers are killed and started anew. What is
// there in the end must be what an undisturbed run leaves.
func TestChaosReachesTheSameEnd(t *testing.T) {
	for seed := range uint64(6) {
		base := fake.New(object.NewScheme(kinds.All()...), namespace("default"), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1"},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}},
		})
		wild := &chaos{Client: base, rng: rand.New(rand.NewPCG(seed, 9))}
		// Only the checks look through an undisturbed view.
		hub := reconcile.NewHub(base, quiet)
		life, kill := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = hub.Run(life) })
		c := &cluster{t, base, hub}
		round := func() (stop func()) {
			ctx, cancel := context.WithCancel(life)
			h := reconcile.NewHub(wild, quiet)
			rec := reconcile.NewRecorder(wild, quiet)
			all := must(controller.All(controller.Deps{Hub: h, Events: rec, Log: quiet, RootCA: []byte("PEM"), ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), NodeCIDRBits: 24}))
			e := reconcile.NewEngine(wild, quiet, nil)
			if err := e.Add(append(all, newAgent(h))...); err != nil {
				t.Fatal(err)
			}
			var running sync.WaitGroup
			running.Go(func() { _ = h.Run(ctx) })
			running.Go(func() { _ = rec.Run(ctx) })
			running.Go(func() { _ = e.Run(ctx) })
			return func() { cancel(); running.Wait() }
		}
		must(client.Create(t.Context(), client.Client(base), web(4, "v1")))
		must(client.Create(t.Context(), client.Client(base), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: corev1.ServiceSpec{
				ClusterIP: "None", ClusterIPs: []string{"None"}, Selector: map[string]string{"app": "web"},
				Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("web")}},
			},
		}))
		for i, image := range []string{"v2", "broken", "v3"} {
			stop := round()
			c.change(func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[0].Image = image
				*d.Spec.Replicas = int32(3 + 2*i)
			})
			c.eventually("the new version", func() bool {
				for _, rs := range list[*appsv1.ReplicaSet](c, "default") {
					if rs.Spec.Template.Spec.Containers[0].Image == image && *rs.Spec.Replicas > 0 {
						return true
					}
				}
				return false
			})
			stop()
		}
		wild.mu.Lock()
		wild.calm = seed%2 == 0 // the others must get there in the storm
		wild.mu.Unlock()
		stop := round()
		c.eventually("the last version", func() bool {
			if !c.complete(7, "v3")() || count[*corev1.Pod](c, "default") != 7 {
				return false
			}
			n := 0
			for _, s := range list[*discoveryv1.EndpointSlice](c, "default") {
				for _, e := range s.Endpoints {
					if *e.Conditions.Ready {
						n++
					}
				}
			}
			return n == 7
		})
		if n := count[*appsv1.ReplicaSet](c, "default"); n > 4 {
			t.Fatalf("seed %d: %d sets for four templates", seed, n)
		}
		background := metav1.DeletePropagationBackground
		if err := client.Delete[*appsv1.Deployment](t.Context(), client.Client(base), "default", "web", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
			t.Fatal(err)
		}
		c.eventually("the end", func() bool {
			return count[*appsv1.ReplicaSet](c, "default") == 0 && count[*corev1.Pod](c, "default") == 0
		})
		stop()
		kill()
		wg.Wait()
		base.Close()
	}
}
