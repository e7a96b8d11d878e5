package controller_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

var quiet = slog.New(slog.DiscardHandler)

// cluster is an API server with all controllers and a stand-in for scheduler and
// node agent: pods run at once, unless their image is "broken".
type cluster struct {
	*testing.T
	c   *fake.Client
	hub *reconcile.Hub
}

func start(t *testing.T, extra ...reconcile.Controller) *cluster {
	t.Helper()
	return startWith(t, controller.Deps{}, extra...)
}

// startWith fills in what the cluster knows of the controllers' dependencies.
func startWith(t *testing.T, d controller.Deps, extra ...reconcile.Controller) *cluster {
	t.Helper()
	return startSeen(t, d, nil, extra...)
}

// startSeen has the controllers' views see the cluster by another client.
func startSeen(t *testing.T, d controller.Deps, by func(client.Client) client.Client, extra ...reconcile.Controller) *cluster {
	t.Helper()
	now := metav1.Now()
	served := kinds.All()
	if d.Workloads {
		served = append(served, kinds.Workloads()...)
	}
	c := fake.New(object.NewScheme(served...),
		namespace("default"), namespace("kube-node-lease"),
		&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1"},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now},
			}},
		})
	var seen client.Client = c
	if by != nil {
		seen = by(c)
	}
	hub := reconcile.NewHub(seen, quiet)
	rec := reconcile.NewRecorder(c, quiet)
	d.Hub, d.Events, d.Log, d.RootCA = hub, rec, quiet, []byte("PEM")
	d.ClusterCIDR, d.NodeCIDRBits = netip.MustParsePrefix("10.244.0.0/16"), 24
	all, err := controller.All(d)
	if err != nil {
		t.Fatal(err)
	}
	e := reconcile.NewEngine(c, quiet, nil)
	if err := e.Add(append(append(all, newAgent(hub)), extra...)...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	wg.Go(func() { _ = rec.Run(ctx) })
	wg.Go(func() { _ = e.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); c.Close() })
	return &cluster{t, c, hub}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
}

// agent binds pods to the first open node and reports them ready, and ends those deleted.
type agent struct {
	pods  *reconcile.View[*corev1.Pod]
	nodes *reconcile.View[*corev1.Node]
	mu    sync.Mutex
	ips   int
	ended map[types.UID]int32 // pods that have succeeded, by the uid of what controls them
}

func newAgent(h *reconcile.Hub) *agent {
	return &agent{pods: reconcile.ViewOf[*corev1.Pod](h), nodes: reconcile.ViewOf[*corev1.Node](h), ended: map[types.UID]int32{}}
}

// open is the node that a daemon's pod is for, or the first, by name, that no
// taint closes.
func (a *agent) open(p *corev1.Pod) string {
	if f := p.Spec.Affinity; f != nil && f.NodeAffinity != nil && f.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, t := range f.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, m := range t.MatchFields {
				return m.Values[0]
			}
		}
	}
	first := ""
	for _, n := range a.nodes.All() {
		closed := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute })
		if !closed && (first == "" || n.Name < first) {
			first = n.Name
		}
	}
	return first
}

func (a *agent) Name() string { return "agent" }
func (a *agent) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(a.pods), reconcile.Reads(a.nodes)}
}
func (a *agent) Outputs() []reconcile.Output { return nil }

func (a *agent) Reconcile(ctx context.Context, w client.Client, k object.Key) (reconcile.Result, error) {
	p, ok := a.pods.Get(k.Namespace, k.Name)
	switch {
	case !ok:
		return reconcile.Result{}, nil
	case p.DeletionTimestamp != nil && p.Spec.NodeName != "":
		var now int64
		err := client.Delete[*corev1.Pod](ctx, w, k.Namespace, k.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		if apierrors.IsNotFound(err) {
			err = nil
		}
		return reconcile.Result{}, err
	case p.DeletionTimestamp != nil:
	case p.Spec.NodeName == "":
		node := a.open(p)
		for _, c := range p.Spec.ResourceClaims {
			if c.ResourceClaimTemplateName != nil && len(p.Status.ResourceClaimStatuses) == 0 {
				return reconcile.Result{}, nil // its claims come first
			}
		}
		if node == "" {
			return reconcile.Result{After: time.Second}, nil
		}
		r := w.Batch(ctx, []client.Write{{Op: client.OpBind, Definition: a.pods.Definition(), Object: &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name, UID: p.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: node},
		}}})
		return reconcile.Result{}, r[0].Err
	case p.Status.Phase != corev1.PodRunning && p.Spec.Containers[0].Image != "broken":
		a.mu.Lock()
		a.ips++
		ip := fmt.Sprintf("10.244.%d.%d", a.ips/250, a.ips%250+1)
		a.mu.Unlock()
		next := p.DeepCopy()
		if end, ends := map[string]corev1.PodPhase{"done": corev1.PodSucceeded, "fail": corev1.PodFailed}[p.Spec.Containers[0].Image]; ends {
			if p.Status.Phase == end {
				return reconcile.Result{}, nil
			}
			next.Status.Phase = end
			_, err := client.UpdateStatus(ctx, w, next)
			if ref := metav1.GetControllerOf(p); err == nil && end == corev1.PodSucceeded && ref != nil {
				a.mu.Lock()
				a.ended[ref.UID]++
				a.mu.Unlock()
			}
			return reconcile.Result{}, err
		}
		now := metav1.Now()
		next.Status.Phase, next.Status.StartTime, next.Status.PodIP, next.Status.PodIPs = corev1.PodRunning, &now, ip, []corev1.PodIP{{IP: ip}}
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
		_, err := client.UpdateStatus(ctx, w, next)
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, nil
}

// eventually waits until ok holds, looking again after each change of any of the
// kinds that the tests are about.
func (c *cluster) eventually(what string, ok func() bool) {
	c.Helper()
	wake := make(chan struct{}, 1)
	ping := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	defer onChange[*corev1.Pod](c, ping)()
	defer onChange[*appsv1.ReplicaSet](c, ping)()
	defer onChange[*appsv1.Deployment](c, ping)()
	defer onChange[*appsv1.DaemonSet](c, ping)()
	defer onChange[*appsv1.StatefulSet](c, ping)()
	defer onChange[*appsv1.ControllerRevision](c, ping)()
	defer onChange[*batchv1.Job](c, ping)()
	defer onChange[*batchv1.CronJob](c, ping)()
	defer onChange[*corev1.Namespace](c, ping)()
	defer onChange[*corev1.ServiceAccount](c, ping)()
	defer onChange[*corev1.ConfigMap](c, ping)()
	defer onChange[*corev1.Node](c, ping)()
	defer onChange[*corev1.Event](c, ping)()
	defer onChange[*corev1.Endpoints](c, ping)()
	defer onChange[*corev1.PersistentVolumeClaim](c, ping)()
	defer onChange[*discoveryv1.EndpointSlice](c, ping)()
	defer onChange[*policyv1.PodDisruptionBudget](c, ping)()
	defer onChange[*rbacv1.ClusterRole](c, ping)()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-wake:
		case <-limit:
			c.Fatalf("%s did not come about", what)
		}
	}
}

func onChange[T object.Object](c *cluster, f func()) (stop func()) {
	return reconcile.ViewOf[T](c.hub).OnChange(func(_, _ T) { f() })
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func count[T object.Object](c *cluster, ns string) int {
	all, _, err := client.ListOf[T](context.Background(), c.c, ns, client.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return len(all)
}

func list[T object.Object](c *cluster, ns string) []T {
	all, _, err := client.ListOf[T](context.Background(), c.c, ns, client.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return all
}

func web(replicas int32, image string) *appsv1.Deployment {
	l := map[string]string{"app": "web"}
	one, none := intstr.FromInt32(1), intstr.FromInt32(0)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{"note": "x"}},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}}},
			},
		},
	}
}

func (c *cluster) deployment() *appsv1.Deployment {
	d, err := client.Get[*appsv1.Deployment](context.Background(), c.c, "default", "web")
	if err != nil {
		c.Fatal(err)
	}
	return d
}

// change updates the deployment, again when somebody was faster.
func (c *cluster) change(f func(*appsv1.Deployment)) {
	c.Helper()
	for {
		d := c.deployment().DeepCopy()
		f(d)
		if _, err := client.Update(context.Background(), c.c, d); !apierrors.IsConflict(err) {
			if err != nil {
				c.Fatal(err)
			}
			return
		}
	}
}

func (c *cluster) complete(n int32, image string) func() bool {
	return func() bool {
		d := c.deployment()
		s := d.Status
		return s.ObservedGeneration >= d.Generation && s.Replicas == n && s.UpdatedReplicas == n && s.AvailableReplicas == n &&
			d.Spec.Template.Spec.Containers[0].Image == image && slices.ContainsFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentProgressing && c.Reason == "NewReplicaSetAvailable"
		})
	}
}

func TestDeploymentFromStartToEnd(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	must(client.Create(ctx, c.c, web(3, "v1")))
	c.eventually("three pods", c.complete(3, "v1"))
	d := c.deployment()
	if d.Annotations["deployment.kubernetes.io/revision"] != "1" {
		t.Fatal(d.Annotations)
	}
	sets := list[*appsv1.ReplicaSet](c, "default")
	hash := sets[0].Labels["pod-template-hash"]
	if len(sets) != 1 || hash == "" || sets[0].Name != "web-"+hash || sets[0].Spec.Selector.MatchLabels["pod-template-hash"] != hash ||
		sets[0].Annotations["note"] != "x" || sets[0].Annotations["deployment.kubernetes.io/max-replicas"] != "4" {
		t.Fatalf("%+v", sets[0])
	}
	for _, p := range list[*corev1.Pod](c, "default") {
		if !strings.HasPrefix(p.Name, sets[0].Name+"-") || p.Labels["pod-template-hash"] != hash || p.OwnerReferences[0].UID != sets[0].UID {
			t.Fatalf("%+v", p.ObjectMeta)
		}
	}

	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.eventually("the second version", c.complete(3, "v2"))
	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "broken" })
	c.eventually("a stopped rollout", func() bool {
		pods := list[*corev1.Pod](c, "default")
		return len(pods) == 4 && slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image == "broken" })
	})
	if n := c.deployment().Status.AvailableReplicas; n != 3 {
		t.Fatalf("%d available during a bad rollout", n)
	}
	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v1" })
	c.eventually("the rollback", c.complete(3, "v1"))
	if r := c.deployment().Annotations["deployment.kubernetes.io/revision"]; r != "4" {
		t.Fatal("revision", r)
	}
	c.change(func(d *appsv1.Deployment) { *d.Spec.Replicas = 20 })
	c.eventually("twenty pods", c.complete(20, "v1"))
	c.change(func(d *appsv1.Deployment) { *d.Spec.Replicas = 2 })
	c.eventually("two pods", func() bool { return c.complete(2, "v1")() && count[*corev1.Pod](c, "default") == 2 })
	c.eventually("events", func() bool {
		var scaled, made bool
		for _, e := range list[*corev1.Event](c, "default") {
			scaled = scaled || e.Reason == "ScalingReplicaSet" && e.Message == "Scaled up replica set "+sets[0].Name+" from 0 to 3" && e.Source.Component == "deployment-controller"
			made = made || e.Reason == "SuccessfulCreate" && strings.HasPrefix(e.Message, "Created pod: web-") && e.Source.Component == "replicaset-controller"
		}
		return scaled && made
	})

	// A deleted pod is replaced, an owned one made to match no more is released.
	p := list[*corev1.Pod](c, "default")[0]
	if err := client.Delete[*corev1.Pod](ctx, c.c, "default", p.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("a replacement", func() bool {
		ps := list[*corev1.Pod](c, "default")
		return len(ps) == 2 && !slices.ContainsFunc(ps, func(o *corev1.Pod) bool { return o.UID == p.UID || o.DeletionTimestamp != nil })
	})
	p = list[*corev1.Pod](c, "default")[0]
	must(c.c.Patch(ctx, object.Of[*corev1.Pod](c.c.Scheme()), "default", p.Name, client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"app":"other"}}}`)}))
	c.eventually("a released pod", func() bool {
		free, err := client.Get[*corev1.Pod](ctx, c.c, "default", p.Name)
		return err == nil && len(free.OwnerReferences) == 0 && count[*corev1.Pod](c, "default") == 3
	})
	must(c.c.Patch(ctx, object.Of[*corev1.Pod](c.c.Scheme()), "default", p.Name, client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"app":"web"}}}`)}))
	c.eventually("its adoption", func() bool { return count[*corev1.Pod](c, "default") == 2 })

	background := metav1.DeletePropagationBackground
	if err := client.Delete[*appsv1.Deployment](ctx, c.c, "default", "web", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the end of everything", func() bool {
		return count[*appsv1.ReplicaSet](c, "default") == 0 && count[*corev1.Pod](c, "default") == 0
	})
}

func TestForegroundDeletion(t *testing.T) {
	c := start(t)
	must(client.Create(t.Context(), c.c, web(3, "v1")))
	c.eventually("three pods", c.complete(3, "v1"))
	held := list[*corev1.Pod](c, "default")[0].Name
	hold := func(finalizers string) {
		must(c.c.Patch(t.Context(), object.Of[*corev1.Pod](c.c.Scheme()), "default", held, client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"finalizers":` + finalizers + `}}`)}))
	}
	hold(`["example.com/hold"]`)
	foreground := metav1.DeletePropagationForeground
	if err := client.Delete[*appsv1.Deployment](t.Context(), c.c, "default", "web", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the end of the other pods", func() bool { return count[*corev1.Pod](c, "default") == 1 })
	if d := c.deployment(); d.DeletionTimestamp == nil {
		t.Fatal("not on its way out")
	}
	hold("null")
	c.eventually("the end", func() bool {
		_, err := client.Get[*appsv1.Deployment](t.Context(), c.c, "default", "web")
		if apierrors.IsNotFound(err) {
			if n := count[*corev1.Pod](c, "default") + count[*appsv1.ReplicaSet](c, "default"); n > 0 {
				t.Fatalf("gone while %d dependents remain", n)
			}
			return true
		}
		return false
	})
}

func TestOrphanDeletion(t *testing.T) {
	c := start(t)
	must(client.Create(t.Context(), c.c, web(2, "v1")))
	c.eventually("two pods", c.complete(2, "v1"))
	set := list[*appsv1.ReplicaSet](c, "default")[0]
	orphan := metav1.DeletePropagationOrphan
	if err := client.Delete[*appsv1.Deployment](t.Context(), c.c, "default", "web", metav1.DeleteOptions{PropagationPolicy: &orphan}); err != nil {
		t.Fatal(err)
	}
	c.eventually("an orphaned set", func() bool {
		if _, err := client.Get[*appsv1.Deployment](t.Context(), c.c, "default", "web"); !apierrors.IsNotFound(err) {
			return false
		}
		now, err := client.Get[*appsv1.ReplicaSet](t.Context(), c.c, "default", set.Name)
		return err == nil && len(now.OwnerReferences) == 0
	})
	if n := count[*corev1.Pod](c, "default"); n != 2 {
		t.Fatalf("%d pods", n)
	}
	// The same Deployment made anew adopts what its selector finds.
	must(client.Create(t.Context(), c.c, web(2, "v1")))
	c.eventually("the adoption", func() bool {
		now, err := client.Get[*appsv1.ReplicaSet](t.Context(), c.c, "default", set.Name)
		return err == nil && len(now.OwnerReferences) == 1 && c.complete(2, "v1")()
	})
	if n := count[*appsv1.ReplicaSet](c, "default"); n != 1 {
		t.Fatalf("%d sets", n)
	}
}

func TestGarbageOfAbsentOwners(t *testing.T) {
	c := start(t)
	yes := true
	owned := func(name string, refs ...metav1.OwnerReference) *corev1.ConfigMap {
		return must(client.Create(t.Context(), c.c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: refs}}))
	}
	ref := func(kind, name string, uid types.UID) metav1.OwnerReference {
		return metav1.OwnerReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid, BlockOwnerDeletion: &yes}
	}
	root := owned("root")
	kept := owned("kept", ref("ConfigMap", "root", root.UID), ref("ConfigMap", "never", "no-such-uid"))
	owned("unknown-kind", metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Widget", Name: "w", UID: "w"})
	owned("lost", ref("ConfigMap", "never", "no-such-uid"))
	owned("impostor", ref("ConfigMap", "root", "another-uid"))
	c.eventually("the end of what has no owner", func() bool {
		var names []string
		for _, m := range list[*corev1.ConfigMap](c, "default") {
			names = append(names, m.Name)
		}
		slices.Sort(names)
		now, err := client.Get[*corev1.ConfigMap](t.Context(), c.c, "default", "kept")
		return err == nil && len(now.OwnerReferences) == 1 && slices.Equal(names, []string{"kept", "kube-root-ca.crt", "root", "unknown-kind"})
	})
	// A circle: each owns the other, and both wait to be deleted first.
	a, b := owned("a", ref("ConfigMap", "root", root.UID)), (*corev1.ConfigMap)(nil)
	b = owned("b", ref("ConfigMap", "a", a.UID))
	must(reconcile.PatchOwners(t.Context(), c.c, object.Of[*corev1.ConfigMap](c.c.Scheme()), a, []metav1.OwnerReference{ref("ConfigMap", "b", b.UID)}))
	foreground := metav1.DeletePropagationForeground
	for _, m := range []*corev1.ConfigMap{a, kept} {
		if err := client.Delete[*corev1.ConfigMap](t.Context(), c.c, "default", m.Name, metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the end of the circle", func() bool { return count[*corev1.ConfigMap](c, "default") == 3 })
}

func TestNamespaceDeletion(t *testing.T) {
	c := start(t)
	must(client.Create(t.Context(), c.c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}))
	c.eventually("its account and CA", func() bool {
		m, err := client.Get[*corev1.ConfigMap](t.Context(), c.c, "team", "kube-root-ca.crt")
		return err == nil && m.Data["ca.crt"] == "PEM" && count[*corev1.ServiceAccount](c, "team") == 1
	})
	d := web(2, "v1")
	d.Namespace = "team"
	must(client.Create(t.Context(), c.c, d))
	must(client.Create(t.Context(), c.c, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "held", Finalizers: []string{"example.com/hold"}}}))
	c.eventually("pods", func() bool { return count[*corev1.Pod](c, "team") == 2 })
	if err := client.Delete[*corev1.Namespace](t.Context(), c.c, "", "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("a condition that says what is left", func() bool {
		ns, err := client.Get[*corev1.Namespace](t.Context(), c.c, "", "team")
		return err == nil && ns.Status.Phase == corev1.NamespaceTerminating && slices.ContainsFunc(ns.Status.Conditions, func(c corev1.NamespaceCondition) bool {
			return c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue && strings.Contains(c.Message, "example.com/hold in 1 resource instances")
		})
	})
	must(c.c.Patch(t.Context(), object.Of[*corev1.ConfigMap](c.c.Scheme()), "team", "held", client.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"finalizers":null}}`)}))
	c.eventually("its end", func() bool {
		_, err := client.Get[*corev1.Namespace](t.Context(), c.c, "", "team")
		return apierrors.IsNotFound(err)
	})
	if n := count[*corev1.Pod](c, "team") + count[*appsv1.Deployment](c, "team") + count[*corev1.ConfigMap](c, "team"); n > 0 {
		t.Fatalf("%d objects left", n)
	}
}

func TestServicesFollowPods(t *testing.T) {
	c := start(t)
	must(client.Create(t.Context(), c.c, web(3, "v1")))
	must(client.Create(t.Context(), c.c, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "None", ClusterIPs: []string{"None"}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("web")}},
		},
	}))
	c.eventually("three endpoints", func() bool {
		slices := list[*discoveryv1.EndpointSlice](c, "default")
		ep, err := client.Get[*corev1.Endpoints](t.Context(), c.c, "default", "web")
		return err == nil && len(ep.Subsets) == 1 && len(ep.Subsets[0].Addresses) == 3 && ep.Subsets[0].Ports[0].Port == 8080 &&
			len(slices) == 1 && len(slices[0].Endpoints) == 3 && *slices[0].Endpoints[0].Conditions.Ready
	})
	must(client.Create(t.Context(), c.c, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
		Spec:       corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}, Ports: []corev1.ServicePort{{Port: 5432}}},
	}))
	must(client.Create(t.Context(), c.c, &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
		Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []corev1.EndpointPort{{Port: 5432, Protocol: corev1.ProtocolTCP}}}},
	}))
	mirror := func() (all []*discoveryv1.EndpointSlice) {
		for _, s := range list[*discoveryv1.EndpointSlice](c, "default") {
			if s.Labels[discoveryv1.LabelServiceName] == "db" {
				all = append(all, s)
			}
		}
		return all
	}
	c.eventually("the mirror", func() bool {
		m := mirror()
		return len(m) == 1 && m[0].Endpoints[0].Addresses[0] == "192.0.2.1" && m[0].Labels[discoveryv1.LabelManagedBy] == "endpointslicemirroring-controller.k8s.io"
	})
	for _, name := range []string{"web", "db"} {
		if err := client.Delete[*corev1.Service](t.Context(), c.c, "default", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the end of slices and Endpoints", func() bool {
		return count[*discoveryv1.EndpointSlice](c, "default") == 0 && count[*corev1.Endpoints](c, "default") == 0
	})
}

func TestNodeGetsRangeAndTaints(t *testing.T) {
	c := start(t)
	c.eventually("a pod range", func() bool {
		n, err := client.Get[*corev1.Node](t.Context(), c.c, "", "n1")
		return err == nil && n.Spec.PodCIDR == "10.244.0.0/24" && slices.Equal(n.Spec.PodCIDRs, []string{n.Spec.PodCIDR})
	})
	must(c.c.Patch(t.Context(), object.Of[*corev1.Node](c.c.Scheme()), "", "n1", client.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"unschedulable":true}}`)}))
	c.eventually("the taint of a cordoned node", func() bool {
		n, err := client.Get[*corev1.Node](t.Context(), c.c, "", "n1")
		return err == nil && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnschedulable })
	})
	must(client.Create(t.Context(), c.c, web(2, "v1")))
	c.eventually("pods", c.complete(2, "v1"))
	old := map[types.UID]bool{}
	for _, p := range list[*corev1.Pod](c, "default") {
		old[p.UID] = true
	}
	edit(c, "n1", func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "maintenance", Effect: corev1.TaintEffectNoExecute})
	})
	c.eventually("eviction", func() bool {
		return !slices.ContainsFunc(list[*corev1.Pod](c, "default"), func(p *corev1.Pod) bool { return old[p.UID] })
	})
}

func TestClusterRolesAggregate(t *testing.T) {
	c := start(t)
	rule := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	must(client.Create(t.Context(), c.c, &rbacv1.ClusterRole{
		ObjectMeta:      metav1.ObjectMeta{Name: "all"},
		AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to": "all"}}}},
	}))
	for _, name := range []string{"a", "b"} {
		must(client.Create(t.Context(), c.c, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"to": "all"}}, Rules: []rbacv1.PolicyRule{rule}}))
	}
	c.eventually("the rule, once", func() bool {
		r, err := client.Get[*rbacv1.ClusterRole](t.Context(), c.c, "", "all")
		return err == nil && len(r.Rules) == 1 && r.Rules[0].Resources[0] == "pods"
	})
}

// TestThousandPods is the shape of the scale benchmark in small; it also proves
// that what is asked for is made once.
func TestThousandPods(t *testing.T) {
	c := start(t)
	must(client.Create(t.Context(), c.c, web(1000, "v1")))
	began := time.Now()
	c.eventually("a thousand pods", func() bool { return c.deployment().Status.AvailableReplicas == 1000 })
	t.Logf("1000 pods in %s", time.Since(began).Round(time.Millisecond))
	if n := count[*corev1.Pod](c, "default"); n != 1000 {
		t.Fatalf("%d pods", n)
	}
}
