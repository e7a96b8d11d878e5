package usage_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sagong/apiserver/usage"
	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// agents answer for nodes a and b, whose one pod each uses half a core and 64 KiB
// since the test began; node "down" is not ready, and "mute" does not answer.
type agents struct {
	mu    sync.Mutex
	began time.Time
	reads int
}

func (a *agents) read(_ context.Context, n *corev1.Node) ([]byte, error) {
	a.mu.Lock()
	a.reads++
	a.mu.Unlock()
	if n.Name == "mute" {
		return nil, errors.New("no route")
	}
	since := time.Since(a.began).Seconds() + 100
	at := time.Now().UnixMilli()
	labels := fmt.Sprintf(`{container="c",namespace="default",pod="on-%s"}`, n.Name)
	return fmt.Appendf(nil, "node_cpu_usage_seconds_total %g %d\nnode_memory_working_set_bytes 1048576 %d\n"+
		"container_cpu_usage_seconds_total%s %g %d\ncontainer_memory_working_set_bytes%s 65536 %d\ncontainer_start_time_seconds%s 5\n",
		2*since, at, at, labels, since/2, at, labels, at, labels), nil
}

func world(t *testing.T, check func(t *testing.T, c *fake.Client, a *agents)) {
	synctest.Test(t, func(t *testing.T) {
		node := func(name string, ready corev1.ConditionStatus) *corev1.Node {
			return &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": name}},
				Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
			}
		}
		pod := func(name string) *corev1.Pod {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}}}
		}
		c := fake.New(object.NewScheme(kinds.All()...), node("a", "True"), node("b", "True"), node("mute", "True"), node("down", "Unknown"),
			pod("on-a"), pod("on-b"), pod("on-mute"))
		hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
		a := &agents{began: time.Now()}
		o := usage.Options{Nodes: reconcile.ViewOf[*corev1.Node](hub), Pods: reconcile.ViewOf[*corev1.Pod](hub), Read: a.read, Log: slog.New(slog.DiscardHandler)}
		usage.New(o).Register(c.Engine())
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = hub.Run(ctx) })
		for _, synced := range []error{o.Nodes.Synced(ctx), o.Pods.Synced(ctx)} {
			if synced != nil {
				t.Fatal(synced)
			}
		}
		check(t, c, a)
		cancel()
		wg.Wait()
		c.Close()
		time.Sleep(5 * time.Minute) // virtual: the reading is forgotten
	})
}

func TestUsage(t *testing.T) {
	world(t, func(t *testing.T, c *fake.Client, a *agents) {
		began := time.Now()
		pods, _, err := client.ListOf[*metricsv1beta1.PodMetrics](t.Context(), c, "default", client.ListOptions{})
		if err != nil || len(pods) != 2 || pods[0].Name != "on-a" || pods[1].Name != "on-b" {
			t.Fatalf("%v %+v", err, pods)
		}
		if took := time.Since(began); took != time.Second || a.reads != 6 {
			t.Errorf("the first answer took %s and %d readings", took, a.reads)
		}
		p := pods[0]
		if p.Labels["app"] != "on-a" || p.Window.Duration != time.Second || !p.Timestamp.Time.Equal(time.Now().Truncate(time.Second)) || len(p.Containers) != 1 {
			t.Errorf("%+v", p)
		}
		u := p.Containers[0].Usage
		if u.Cpu().String() != "500m" || u.Memory().String() != "64Ki" || p.Containers[0].Name != "c" {
			t.Errorf("%+v", p.Containers)
		}
		nodes, _, err := client.ListOf[*metricsv1beta1.NodeMetrics](t.Context(), c, "", client.ListOptions{})
		if err != nil || len(nodes) != 2 || nodes[1].Name != "b" || nodes[1].Usage.Cpu().String() != "2" || nodes[1].Usage.Memory().String() != "1Mi" {
			t.Fatalf("%v %+v", err, nodes)
		}
		if a.reads != 6 {
			t.Errorf("an answer of the same 15 s was read anew: %d", a.reads)
		}

		time.Sleep(20 * time.Second)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				pods, _, err := client.ListOf[*metricsv1beta1.PodMetrics](t.Context(), c, "", client.ListOptions{LabelSelector: "app=on-b"})
				if err != nil || len(pods) != 1 || pods[0].Window.Duration != 20*time.Second {
					t.Errorf("%v %+v", err, pods)
				}
			})
		}
		wg.Wait()
		if a.reads != 9 {
			t.Errorf("five askers made %d readings", a.reads-6)
		}

		time.Sleep(3 * time.Minute)
		n, err := client.Get[*metricsv1beta1.NodeMetrics](t.Context(), c, "", "a")
		if err != nil || n.Window.Duration != time.Second || n.Labels["zone"] != "a" {
			t.Errorf("after a pause: %v %+v", err, n)
		}
		for _, name := range []string{"mute", "down", "none"} {
			if _, err := client.Get[*metricsv1beta1.NodeMetrics](t.Context(), c, "", name); !apierrors.IsNotFound(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = client.Get[*metricsv1beta1.PodMetrics](t.Context(), c, "default", "on-mute")
		if err == nil || err.Error() != `podmetrics.metrics.k8s.io "default/on-mute" not found` {
			t.Errorf("%v", err)
		}
	})
}
