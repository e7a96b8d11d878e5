package simulate

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// cluster is a fleet on an API of its own, without any other component, on
// virtual time.
type cluster struct {
	*testing.T
	c     *fake.Client
	fleet *Fleet
	pods  *reconcile.View[*corev1.Pod]
	nodes *reconcile.View[*corev1.Node]
	stop  func()
}

// run runs f beside a fleet whose nodes are Ready.
func run(t *testing.T, cfg Config, f func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t, c: fake.New(object.NewScheme(kinds.All()...),
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: corev1.NamespaceNodeLease}})}
		defer c.c.Close()
		hub := reconcile.NewHub(c.c, slog.New(slog.DiscardHandler))
		c.pods, c.nodes = reconcile.ViewOf[*corev1.Pod](hub), reconcile.ViewOf[*corev1.Node](hub)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = hub.Run(ctx) })
		cfg.Client = c.c.As("simulate")
		fleet, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.fleet = fleet
		fleetCtx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- fleet.Run(fleetCtx) }()
		c.stop = sync.OnceFunc(func() {
			stop()
			if err := <-ended; err != nil && err.Error() != context.Canceled.Error() {
				t.Errorf("the fleet ended with %v", err)
			}
		})
		<-fleet.Ready()
		f(c)
		c.stop()
		cancel()
		wg.Wait()
	})
}

// after lets time pass, and all that it brings.
func (c *cluster) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (c *cluster) place(name, node string, change func(*corev1.Pod)) {
	c.Helper()
	grace := int64(30)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "c", Image: "example.org/c:v1", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}},
		},
	}
	if change != nil {
		change(p)
	}
	if _, err := client.Create(c.Context(), client.Client(c.c), p); err != nil {
		c.Fatal(err)
	}
	synctest.Wait()
}

func (c *cluster) pod(name string) *corev1.Pod {
	c.Helper()
	p, ok := c.pods.Get("default", name)
	if !ok {
		c.Fatalf("pod %s is gone", name)
	}
	return p
}

func (c *cluster) phase(name string, want corev1.PodPhase, ready bool) *corev1.Pod {
	c.Helper()
	p := c.pod(name)
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	if p.Status.Phase != want || (i >= 0 && p.Status.Conditions[i].Status == corev1.ConditionTrue) != ready {
		c.Fatalf("pod %s: %+v", name, p.Status)
	}
	return p
}

func always(d time.Duration) Distribution { return Distribution{a: d} }

func TestPodsLiveAndDie(t *testing.T) {
	run(t, Config{Count: 3, StartDelay: always(2 * time.Second), StopDelay: always(5 * time.Second), RunFor: always(10 * time.Second)}, func(c *cluster) {
		c.place("web", "sim-1", nil)
		c.place("job", "sim-2", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever })
		c.place("broken", "sim-2", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Annotations = map[string]string{AnnotationExitCode: "3", AnnotationRunFor: "1s"}
		})
		c.after(time.Second)
		if p := c.phase("web", corev1.PodPending, false); p.Status.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating" {
			c.Fatalf("%+v", p.Status)
		}
		c.after(2 * time.Second)
		p := c.phase("web", corev1.PodRunning, true)
		if p.Status.PodIP == "" || p.Status.HostIP == "" || p.Status.StartTime == nil || !*p.Status.ContainerStatuses[0].Started || p.Status.QOSClass != corev1.PodQOSBurstable {
			c.Fatalf("%+v", p.Status)
		}
		c.phase("job", corev1.PodRunning, true)
		c.after(10 * time.Second)
		c.phase("job", corev1.PodSucceeded, false)
		if p := c.phase("broken", corev1.PodFailed, false); p.Status.ContainerStatuses[0].State.Terminated.ExitCode != 3 {
			c.Fatalf("%+v", p.Status)
		}
		if err := client.Delete[*corev1.Pod](c.Context(), client.Client(c.c), "default", "web", metav1.DeleteOptions{}); err != nil {
			c.Fatal(err)
		}
		c.after(4 * time.Second)
		c.phase("web", corev1.PodRunning, true)
		c.after(2 * time.Second)
		if _, there := c.pods.Get("default", "web"); there {
			c.Fatal("the pod is still there")
		}
	})
}

func TestContainersThatCrash(t *testing.T) {
	run(t, Config{Count: 1}, func(c *cluster) {
		c.place("p", "sim-0", func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationCrashAfter: "5s"} })
		// As a real agent does, the first time at once, then with a back-off.
		c.after(6 * time.Second)
		if s := c.phase("p", corev1.PodRunning, true).Status.ContainerStatuses[0]; s.RestartCount != 1 || s.LastTerminationState.Terminated.ExitCode != 1 {
			c.Fatalf("%+v", s)
		}
		for i, wait := range []time.Duration{10 * time.Second, 20 * time.Second} {
			c.after(5 * time.Second)
			s := c.phase("p", corev1.PodRunning, false).Status.ContainerStatuses[0]
			if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.RestartCount != int32(i+1) {
				c.Fatalf("%+v", s)
			}
			c.after(wait)
			if s := c.phase("p", corev1.PodRunning, true).Status.ContainerStatuses[0]; s.RestartCount != int32(i+2) {
				c.Fatalf("%+v", s)
			}
		}
	})
}

// A run that lasted begins the back-off anew.
func TestBackoffAfterALongRun(t *testing.T) {
	run(t, Config{Count: 1}, func(c *cluster) {
		c.place("p", "sim-0", func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationCrashAfter: "11m"} })
		for restarts := range int32(3) {
			c.after(11*time.Minute + time.Second)
			if s := c.phase("p", corev1.PodRunning, true).Status.ContainerStatuses[0]; s.RestartCount != restarts+1 {
				c.Fatalf("%+v", s)
			}
		}
	})
}

func TestWhatNoNodeCanBeIsRefused(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`cannot label nodes with "a/b/c=d"`: func(c *Config) { c.Labels = map[string]string{"a/b/c": "d"} },
		`cannot label nodes with "a=b=c"`:   func(c *Config) { c.Labels = map[string]string{"a": "b=c"} },
		`cannot give nodes 1500m of "example.com/gpu": it must be a whole number`: func(c *Config) {
			c.Capacity = corev1.ResourceList{"example.com/gpu": resource.MustParse("1500m")}
		},
		`cannot give nodes "a b"`:       func(c *Config) { c.Capacity = corev1.ResourceList{"a b": resource.MustParse("1")} },
		"cannot kill nodes after -1m0s": func(c *Config) { c.Kill.After = -time.Minute },
		"cannot kill nodes for -1m0s":   func(c *Config) { c.Kill.For = -time.Minute },
	} {
		c := Config{Count: 1}
		change(&c)
		c.Defaults()
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for text, want := range map[string]int32{"": 7, "0": 0, "3": 3, "255": 255, "256": 7, "999": 7, "-1": 7, "two": 7} {
		p := &pod{}
		p.meta.Annotations = map[string]string{AnnotationExitCode: text}
		if got := p.code(7); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestNodesReportAndAreRemoved(t *testing.T) {
	run(t, Config{Count: 20, Zones: 3, LeaseDuration: 40 * time.Second}, func(c *cluster) {
		renewed := func() (last []time.Time) {
			for i := range 20 {
				l, err := client.Get[*coordinationv1.Lease](c.Context(), client.Client(c.c), corev1.NamespaceNodeLease, fmt.Sprintf("sim-%d", i))
				if err != nil {
					c.Fatal(err)
				}
				last = append(last, l.Spec.RenewTime.Time)
			}
			return last
		}
		c.after(time.Minute)
		for _, at := range renewed() {
			if silent := time.Since(at); silent > 10*time.Second {
				c.Errorf("a lease was not renewed for %v", silent)
			}
		}
		n, _ := c.nodes.Get("", "sim-4")
		if !nodeReady(n) || n.Labels[corev1.LabelTopologyZone] != "zone-1" || n.Spec.PodCIDR == "" || n.Status.Allocatable.Cpu().Value() != 32 {
			c.Fatalf("%+v", n)
		}
		beat := func(n *corev1.Node) time.Time { return n.Status.Conditions[0].LastHeartbeatTime.Time }
		before := beat(n)
		c.after(6 * time.Minute)
		if n, _ = c.nodes.Get("", "sim-4"); !beat(n).After(before) {
			c.Fatal("no status was reported for six minutes")
		}
		c.stop()
		synctest.Wait()
		if c.nodes.Len() != 0 {
			c.Fatalf("%d nodes are left", c.nodes.Len())
		}
	})
}

func TestNodesThatGoDownAndComeBack(t *testing.T) {
	run(t, Config{Count: 2}, func(c *cluster) {
		c.place("a", "sim-0", nil)
		c.place("b", "sim-1", nil)
		c.after(time.Second)
		c.phase("a", corev1.PodRunning, true)
		tell := func(node, state string) {
			n, err := client.Get[*corev1.Node](c.Context(), client.Client(c.c), "", node)
			if err != nil {
				c.Fatal(err)
			}
			n = n.DeepCopy()
			n.Annotations = map[string]string{AnnotationState: state}
			if _, err := client.Update(c.Context(), client.Client(c.c), n); err != nil {
				c.Fatal(err)
			}
			synctest.Wait()
		}
		lease := func(node string) time.Duration {
			l, err := client.Get[*coordinationv1.Lease](c.Context(), client.Client(c.c), corev1.NamespaceNodeLease, node)
			if err != nil {
				c.Fatal(err)
			}
			return time.Since(l.Spec.RenewTime.Time)
		}
		tell("sim-0", StateDown)
		tell("sim-1", StateCutOff)
		c.after(time.Minute)
		if lease("sim-0") < 50*time.Second || lease("sim-1") < 50*time.Second {
			c.Fatal("a node that is down renewed its lease")
		}
		// What a control plane does with pods of silent nodes.
		for _, name := range []string{"a", "b"} {
			p := c.pod(name).DeepCopy()
			for i := range p.Status.Conditions {
				if p.Status.Conditions[i].Type == corev1.PodReady {
					p.Status.Conditions[i].Status = corev1.ConditionFalse
				}
			}
			if _, err := client.UpdateStatus(c.Context(), client.Client(c.c), p); err != nil {
				c.Fatal(err)
			}
		}
		c.after(time.Second)
		c.phase("b", corev1.PodRunning, false)
		tell("sim-0", "")
		tell("sim-1", "")
		c.after(time.Second)
		if s := c.phase("a", corev1.PodRunning, true).Status.ContainerStatuses[0]; s.RestartCount != 1 {
			c.Fatalf("containers outlived their machine: %+v", s)
		}
		if s := c.phase("b", corev1.PodRunning, true).Status.ContainerStatuses[0]; s.RestartCount != 0 {
			c.Fatalf("containers died of a lost network: %+v", s)
		}
		if lease("sim-0") > 10*time.Second {
			c.Fatal("a node that is back does not renew its lease")
		}
	})
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	run(t, Config{Count: 1, Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}, func(c *cluster) {
		for i := range 3 {
			c.place(fmt.Sprintf("p%d", i), "sim-0", nil)
		}
		c.after(time.Second)
		refused := 0
		for i := range 3 {
			if p := c.pod(fmt.Sprintf("p%d", i)); p.Status.Phase == corev1.PodFailed && p.Status.Reason == "OutOfcpu" {
				refused++
			}
		}
		if refused != 1 {
			c.Fatalf("%d pods of three were refused", refused)
		}
		addresses := map[string]bool{}
		for _, p := range c.pods.All() {
			if p.Status.PodIP != "" {
				addresses[p.Status.PodIP] = true
			}
		}
		if len(addresses) != 2 {
			c.Fatalf("addresses %v", addresses)
		}
	})
}

func TestNodesDeclareWhatTheyDo(t *testing.T) {
	run(t, Config{Count: 1}, func(c *cluster) {
		n, err := client.Get[*corev1.Node](c.Context(), client.Client(c.c), "", "sim-0")
		if want := []string{"InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"}; err != nil || !slices.Equal(n.Status.DeclaredFeatures, want) {
			c.Errorf("declares %v, %v", n.Status.DeclaredFeatures, err)
		}
		c.place("restarts", "sim-0", func(p *corev1.Pod) {
			never := corev1.ContainerRestartPolicyNever
			p.Spec.Containers[0].RestartPolicy = &never
			p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
				Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
				ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
			}}
		})
		p := c.phase("restarts", corev1.PodFailed, false)
		if p.Status.Reason != "PodFeatureUnsupported" || p.Status.Message != "Pod was rejected: Pod requires node features that are not available: RestartAllContainersOnContainerExits" {
			c.Errorf("%s: %s", p.Status.Reason, p.Status.Message)
		}
		whole := &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}
		c.place("whole", "sim-0", func(p *corev1.Pod) { p.Spec.Resources = whole })
		c.after(time.Minute)
		if s := c.pod("whole").Status; s.Resources == nil || s.Resources.Requests.Cpu().Value() != 2 || s.AllocatedResources.Cpu().Value() != 2 {
			c.Errorf("%+v", s)
		}
	})
}
