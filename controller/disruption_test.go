package controller_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/client"
	"sagong/controller/podstate"
)

// budget makes a PodDisruptionBudget over app and waits for what becomes of it.
func (c *cluster) budget(name, app string, least, most string) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: inDefault(name), Spec: policyv1.PodDisruptionBudgetSpec{Selector: by(app)}}
	if least != "" {
		b.Spec.MinAvailable = new(intstr.Parse(least))
	}
	if most != "" {
		b.Spec.MaxUnavailable = new(intstr.Parse(most))
	}
	must(client.Create(c.Context(), c.c, b))
	synctest.Wait()
	return must(client.Get[*policyv1.PodDisruptionBudget](c.Context(), c.c, "default", name))
}

// TestBudgetOfPodsWithoutScale is about pods whose owner has no size, and pods
// without owner: a number of them can be kept, a share of them not.
func TestBudgetOfPodsWithoutScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		must(client.Create(t.Context(), c.c, &appsv1.DaemonSet{ObjectMeta: inDefault("log"), Spec: appsv1.DaemonSetSpec{Selector: by("log"), Template: template("log", "v1")}}))
		j := &batchv1.Job{ObjectMeta: inDefault("work"), Spec: batchv1.JobSpec{Template: template("work", "v1")}}
		j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		must(client.Create(t.Context(), c.c, j))
		must(client.Create(t.Context(), c.c, lone("alone", "v1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "alone"} })))
		synctest.Wait()

		for _, app := range []string{"log", "work", "alone"} {
			s := c.budget(app+"-number", app, "0", "").Status
			if s.DisruptionsAllowed != 1 || s.ExpectedPods != 1 || s.CurrentHealthy != 1 || s.ObservedGeneration != 1 {
				t.Errorf("%s: %+v", app, s)
			}
		}
		if c.told("UnmanagedPods", "") {
			t.Error("an event about unmanaged pods although their owners do not count")
		}
		for app, resource := range map[string]string{"log": "daemonsets.apps", "work": "jobs.batch"} {
			s := c.budget(app+"-share", app, "", "50%").Status
			cond := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition)
			if text := resource + " does not implement the scale subresource"; s.DisruptionsAllowed != 0 || cond == nil || cond.Reason != policyv1.SyncFailedReason || cond.Message != text ||
				!c.told("CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: "+text) {
				t.Errorf("%s: %+v", app, s)
			}
		}
		if s := c.budget("alone-share", "alone", "50%", "").Status; s.ExpectedPods != 0 || s.DisruptionsAllowed != 0 {
			t.Errorf("%+v", s)
		}
		if !c.told("UnmanagedPods", "(selector: &LabelSelector{MatchLabels:map[string]string{app: alone,},") {
			t.Error("nothing is told of unmanaged pods")
		}
	})
}

// TestDisruptionThatDoesNotCome is about pods that were to be evicted and were not.
func TestDisruptionThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		disrupted := func(reason string) func(*corev1.Pod) {
			return func(p *corev1.Pod) {
				p.Labels = map[string]string{"app": "web"}
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: "soon", LastTransitionTime: metav1.Now()}}
			}
		}
		for name, reason := range map[string]string{"given-up": "EvictionByEvictionAPI", "ending": corev1.PodReasonTerminationByKubelet} {
			if err := c.c.Seed(lone(name, "v1", disrupted(reason))); err != nil {
				t.Fatal(err)
			}
		}
		c.budget("web", "web", "1", "")
		editStatus(c, "web", func(b *policyv1.PodDisruptionBudget) {
			b.Status.DisruptedPods = map[string]metav1.Time{"given-up": metav1.Now()}
		})
		settle(2*time.Minute + 2*time.Second)
		target := func(name string) string {
			cond := podstate.Condition(must(client.Get[*corev1.Pod](t.Context(), c.c, "default", name)), corev1.DisruptionTarget)
			return strings.Join([]string{string(cond.Status), cond.Reason, cond.Message}, "/")
		}
		if got := target("given-up"); got != "False//" {
			t.Error("given up:", got)
		}
		if got := target("ending"); got != "True/TerminationByKubelet/soon" {
			t.Error("ending:", got)
		}
		if !c.told("NotDeleted", "Pod was expected by PDB default/web to be deleted but it wasn't") {
			t.Error("nothing is told of the pod that is still there")
		}
		if s := must(client.Get[*policyv1.PodDisruptionBudget](t.Context(), c.c, "default", "web")).Status; len(s.DisruptedPods) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestBudgetCountsFinishedPods is about pods that have ended but are still there: they
// are expected, and nobody counts them as healthy.
func TestBudgetCountsFinishedPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		for name, phase := range map[string]corev1.PodPhase{"on": corev1.PodRunning, "done": corev1.PodSucceeded, "failed": corev1.PodFailed} {
			if err := c.c.Seed(lone(name, "broken", func(p *corev1.Pod) { // nobody changes what it says
				p.Labels, p.Spec.NodeName, p.Status.Phase = map[string]string{"app": "x"}, "n1", phase
				if phase == corev1.PodRunning {
					p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				}
			})); err != nil {
				t.Fatal(err)
			}
		}
		if s := c.budget("x", "x", "1", "").Status; s.ExpectedPods != 3 || s.CurrentHealthy != 1 || s.DesiredHealthy != 1 || s.DisruptionsAllowed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPodOfSeveralBudgets warns of pods that cannot be evicted, as two budgets cover
// them: whichever came last.
func TestPodOfSeveralBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t)
		pod := func(name string) {
			must(client.Create(t.Context(), c.c, lone(name, "v1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "x"} })))
			synctest.Wait()
		}
		text := func(pod string) string {
			return `Pod "default"/"` + pod + `" matches multiple PodDisruptionBudgets.  Chose "a" arbitrarily.`
		}
		pod("before")
		c.budget("b", "x", "1", "")
		if c.told("MultiplePodDisruptionBudgets", "") {
			t.Error("a warning of several budgets where there is one")
		}
		c.budget("a", "x", "1", "")
		if !c.told("MultiplePodDisruptionBudgets", text("before")) {
			t.Error("nothing is told of the pod that was there")
		}
		pod("after")
		if !c.told("MultiplePodDisruptionBudgets", text("after")) {
			t.Error("nothing is told of the pod that came later")
		}
		c.budget("none", "y", "1", "")
		must(client.Create(t.Context(), c.c, lone("alone", "v1", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "y"} })))
		synctest.Wait()
		if c.told("MultiplePodDisruptionBudgets", "alone") {
			t.Error("a warning of a pod of one budget")
		}
		if !c.told("NoPods", "No matching pods found") {
			t.Error("nothing is told of the budget without pods")
		}
	})
}
