package reconcile_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

func agingPod(name, node, phase string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"phase": phase}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "example.org/i:v1"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodPhase(phase)},
	}
}

// followed is a cluster and a view of its pods, which runs.
func followed(t *testing.T, wrap func(client.Client) client.Client) (*fake.Client, *reconcile.View[*corev1.Pod]) {
	t.Helper()
	f := fake.New(object.NewScheme(kinds.All()...))
	v := reconcile.NewView[*corev1.Pod](wrap(f), quiet, client.ListOptions{})
	v.Index("node", func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} })
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = v.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); f.Close() })
	if err := v.Synced(ctx); err != nil {
		t.Fatal(err)
	}
	return f, v
}

func itself(c client.Client) client.Client { return c }

// Whatever a view and the records let go of, and when, it shows what there is, and
// its handlers are told of every change from what was to what is.
func TestViewsLetGo(t *testing.T) {
	f, v := followed(t, itself)
	digests := reconcile.DigestsOf(v, func(p *corev1.Pod) string { return p.Labels["step"] })
	ctx := t.Context()
	kind := f.Engine().Kind(object.Of[*corev1.Pod](f.Scheme()))
	told := map[string]*corev1.Pod{} // what handlers know; theirs until v is waited for
	v.OnChange(func(old, new *corev1.Pod) {
		if old != nil {
			if was := told[old.Name]; was == nil || !reflect.DeepEqual(was, old) {
				t.Errorf("told of a change from\n%v, it was\n%v", old, was)
			}
			delete(told, old.Name)
		}
		if new != nil {
			told[new.Name] = new.DeepCopy()
		}
	})
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	there := map[string]*corev1.Pod{}
	names := func() []string { return slices.Sorted(maps.Keys(there)) }
	var last object.Revision
	for step := range 600 {
		switch n := random.IntN(10); {
		case n < 3 || len(there) == 0:
			name := fmt.Sprint("p", step)
			p, err := client.Create(ctx, f, agingPod(name, "", "Pending"))
			if err != nil {
				t.Fatal(err)
			}
			there[name], last = p, object.RevisionOf(p)
		case n < 6:
			next := there[pick(names()...)].DeepCopy()
			next.Labels["step"] = fmt.Sprint(step)
			p, err := client.Update(ctx, f, next)
			if err != nil {
				t.Fatal(err)
			}
			there[next.Name], last = p, object.RevisionOf(p)
		case n == 6:
			now := int64(0)
			gone := there[pick(names()...)]
			if err := client.Delete[*corev1.Pod](ctx, f, "default", gone.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
				t.Fatal(err)
			}
			delete(there, gone.Name)
			last = f.Revision()
		case n == 7:
			v.EndAge()
		case n == 8:
			kind.EndAge()
		default:
			if err := v.WaitRevision(ctx, last); err != nil {
				t.Fatal(err)
			}
			got := v.All()
			if pick("by", "all") == "by" {
				got = v.By("node", "")
			}
			if len(got) != len(there) || v.Count("node", "") != len(there) || len(told) != len(there) {
				t.Fatalf("step %d: %d objects, handlers know %d, want %d", step, len(got), len(told), len(there))
			}
			for _, p := range got {
				if !reflect.DeepEqual(p, there[p.Name]) {
					t.Fatalf("step %d: got\n%v, want\n%v", step, p, there[p.Name])
				}
			}
			digested := digests.By("node", "")
			if len(digested) != len(there) {
				t.Fatalf("step %d: %d digests, want %d", step, len(digested), len(there))
			}
			for _, d := range digested {
				if p := d.Object(); !reflect.DeepEqual(p, there[p.Name]) || *d.Digest != there[p.Name].Labels["step"] {
					t.Fatalf("step %d: got\n%q %v, want\n%v", step, *d.Digest, p, there[p.Name])
				}
			}
		}
	}
	if err := v.WaitRevision(ctx, last); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		v.EndAge()
		kind.EndAge()
	}
	if n := v.Held(); n != 0 {
		t.Errorf("the view holds %d objects that have not changed for two ages", n)
	}
	for name, want := range there {
		kept := v.Kept(want)
		if kept == nil {
			t.Fatalf("nothing stands for %s", name)
		}
		if got := v.Recall(kept); !reflect.DeepEqual(got, want) {
			t.Errorf("recalled\n%v, want\n%v", got, want)
		}
		if a, _ := v.Get("default", name); a != v.Recall(kept) {
			t.Error("two who ask at the same time get two objects")
		}
	}
}

// Those who read a view, write and let go do not disturb each other.
func TestViewsLetGoBesideReaders(t *testing.T) {
	f, v := followed(t, itself)
	ctx := t.Context()
	kind := f.Engine().Kind(object.Of[*corev1.Pod](f.Scheme()))
	const pods, rounds = 20, 30
	for i := range pods {
		if _, err := client.Create(ctx, f, agingPod(fmt.Sprint("p", i), "", "Pending")); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.WaitRevision(ctx, f.Revision()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for n := range rounds {
				name := fmt.Sprint("p", (worker*7+n)%pods)
				switch worker {
				case 0:
					v.EndAge()
					kind.EndAge()
				case 1:
					_, _ = client.PatchOf[*corev1.Pod](ctx, f, "default", name, client.Patch{Type: "application/merge-patch+json", Data: []byte(`{"metadata":{"labels":{"n":"` + fmt.Sprint(n) + `"}}}`)})
				default:
					if p, ok := v.Get("default", name); !ok || p.Name != name || len(v.By("node", "")) != pods {
						t.Errorf("%s is not there", name)
					}
				}
			}
		})
	}
	all.Wait()
}

// plain is a client without the power of a Keeper.
type plain struct{ client.Client }

// A view of a client that keeps nothing holds every object itself.
func TestViewsHold(t *testing.T) {
	f, v := followed(t, func(c client.Client) client.Client { return plain{c} })
	p, err := client.Create(t.Context(), f, agingPod("p", "", "Pending"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.WaitRevision(t.Context(), object.RevisionOf(p)); err != nil {
		t.Fatal(err)
	}
	v.EndAge()
	v.EndAge()
	if got, ok := v.Get("default", "p"); !ok || got.Name != "p" || v.Held() != 1 || v.Kept(p) != nil {
		t.Error("the view let go of an object that nobody gives again")
	}
}
