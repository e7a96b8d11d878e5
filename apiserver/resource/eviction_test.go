package resource_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// meddler is admission that does something else when a pod is about to be deleted.
type meddler struct{ meddle func() }

func (m *meddler) Admit(_ context.Context, a *resource.Attributes) error {
	if f := m.meddle; f != nil && a.Operation == resource.Delete {
		m.meddle = nil
		f()
	}
	return nil
}

func (*meddler) Validate(context.Context, *resource.Attributes) error { return nil }

// evictions is an API server with a pod p and what budgets cover it.
type evictions struct {
	*testing.T
	e *resource.Engine
	m *meddler
}

func newEvictions(t *testing.T, pod *corev1.Pod, budgets ...*policyv1.PodDisruptionBudget) *evictions {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	t.Cleanup(func() { s.Close() })
	v := &evictions{T: t, m: &meddler{}}
	v.e = resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...), Admission: v.m})
	pod.Namespace, pod.Name, pod.UID, pod.Labels = "ns", "p", "u", map[string]string{"app": "x"}
	pod.Spec.TerminationGracePeriodSeconds = new(int64(30))
	v.seed(pod)
	for _, b := range budgets {
		v.seed(b)
	}
	return v
}

func (v *evictions) seed(o object.Object) {
	v.Helper()
	if err := v.e.Seed(v.Context(), v.e.Scheme().ByObject(o), o); err != nil {
		v.Fatal(err)
	}
}

func (v *evictions) target(o object.Object, name string) resource.Target {
	return resource.Target{Kind: v.e.Kind(v.e.Scheme().ByObject(o)), Namespace: "ns", Name: name}
}

// pod is nil when it is gone.
func (v *evictions) pod() *corev1.Pod {
	v.Helper()
	it, err := v.e.Get(v.Context(), v.target(&corev1.Pod{}, "p"), 0)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		v.Fatal(err)
	}
	o, err := it.Object()
	if err != nil {
		v.Fatal(err)
	}
	return o.(*corev1.Pod)
}

func (v *evictions) budget(name string) policyv1.PodDisruptionBudgetStatus {
	v.Helper()
	it, err := v.e.Get(v.Context(), v.target(&policyv1.PodDisruptionBudget{}, name), 0)
	if err != nil {
		v.Fatal(err)
	}
	o, err := it.Object()
	if err != nil {
		v.Fatal(err)
	}
	return o.(*policyv1.PodDisruptionBudget).Status
}

// evict is the answer: "201", or code, reason, message, seconds and causes.
func (v *evictions) evict(name string, del *metav1.DeleteOptions, dry ...string) string {
	v.Helper()
	t := v.target(&corev1.Pod{}, "p")
	t.Subresource = "eviction"
	made, err := v.e.CreateSubresource(v.Context(), resource.Caller{}, t,
		&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, DeleteOptions: del}, &metav1.CreateOptions{DryRun: dry})
	if err == nil {
		return fmt.Sprint(made.(*metav1.Status).Code)
	}
	s := err.(apierrors.APIStatus).Status()
	text := fmt.Sprintf("%d %s: %s", s.Code, s.Reason, s.Message)
	if s.Details != nil {
		if s.Details.RetryAfterSeconds > 0 {
			text += fmt.Sprintf(" (%ds)", s.Details.RetryAfterSeconds)
		}
		for _, c := range s.Details.Causes {
			text += fmt.Sprintf(" | %s: %s", c.Type, c.Message)
		}
	}
	return text
}

func podIn(phase corev1.PodPhase, ready corev1.ConditionStatus) *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{Phase: phase}}
	if ready != "" {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	}
	return p
}

func budgetWith(name string, change func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Generation: 1},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1},
	}
	if change != nil {
		change(b)
	}
	return b
}

const violates = "429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget."

// TestEvictionAnswers is about whether a pod may be evicted, and what is said if not.
func TestEvictionAnswers(t *testing.T) {
	always := policyv1.AlwaysAllow
	mayBe := policyv1.IfHealthyBudget
	running := func() *corev1.Pod { return podIn(corev1.PodRunning, corev1.ConditionTrue) }
	unready := func() *corev1.Pod { return podIn(corev1.PodRunning, corev1.ConditionFalse) }
	failed := func(reason, message string) func(*policyv1.PodDisruptionBudget) {
		return func(b *policyv1.PodDisruptionBudget) {
			b.Status.CurrentHealthy, b.Status.DesiredHealthy = 4, 3
			b.Status.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: reason, Message: message}}
		}
	}
	policy := func(p *policyv1.UnhealthyPodEvictionPolicyType, current, desired int32) func(*policyv1.PodDisruptionBudget) {
		return func(b *policyv1.PodDisruptionBudget) {
			b.Spec.UnhealthyPodEvictionPolicy, b.Status.CurrentHealthy, b.Status.DesiredHealthy = p, current, desired
		}
	}
	needs := violates + " | DisruptionBudget: The disruption budget b needs %d healthy pods and has %d currently"
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		budget func(*policyv1.PodDisruptionBudget)
		want   string
	}{
		"the budget is new": {running(), func(b *policyv1.PodDisruptionBudget) { b.Generation = 2 },
			violates + " (10s) | DisruptionBudget: The disruption budget b is still being processed by the server."},
		"less than none allowed": {running(), func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = -1 },
			`403 Forbidden: poddisruptionbudget.policy "b" is forbidden: pdb disruptions allowed is negative | DisruptionBudget: The disruption budget b does not allow evicting pods currently: pdb disruptions allowed is negative`},
		"too many evictions under way": {running(), func(b *policyv1.PodDisruptionBudget) {
			b.Status.DisruptionsAllowed, b.Status.DisruptedPods = 1, map[string]metav1.Time{}
			for i := range 2001 {
				b.Status.DisruptedPods[fmt.Sprint("p", i)] = metav1.Unix(1, 0)
			}
		}, `403 Forbidden: poddisruptionbudget.policy "b" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller | DisruptionBudget: The disruption budget b does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller`},
		"none allowed": {running(), policy(nil, 2, 2), fmt.Sprintf(needs, 2, 2)},
		"the budget could not be worked out": {running(), failed(policyv1.SyncFailedReason, "why"),
			violates + " | DisruptionBudget: The disruption budget b does not allow evicting pods currently because it failed sync: why"},
		"none allowed, with a reason": {running(), failed("Other", "why"),
			violates + " | DisruptionBudget: The disruption budget b does not allow evicting pods currently (Other): why"},
		"none allowed, for no reason": {running(), failed("Other", ""),
			violates + " | DisruptionBudget: The disruption budget b does not allow evicting pods currently"},
		"unready, of a healthy application":          {unready(), policy(nil, 2, 2), "201"},
		"unready, of a healthy application, as said": {unready(), policy(&mayBe, 2, 2), "201"},
		"unready, of one that is not":                {unready(), policy(&mayBe, 1, 2), fmt.Sprintf(needs, 2, 1)},
		"unready, of one that needs none":            {unready(), policy(nil, 0, 0), fmt.Sprintf(needs, 0, 0)},
		"unready, always":                            {unready(), policy(&always, 0, 2), "201"},
		"unready, always, by a budget that is new":   {unready(), func(b *policyv1.PodDisruptionBudget) { b.Generation, b.Spec.UnhealthyPodEvictionPolicy = 2, &always }, "201"},
		"ready, although the unready always":         {running(), policy(&always, 2, 2), fmt.Sprintf(needs, 2, 2)},
		"finished":                                   {podIn(corev1.PodSucceeded, ""), policy(nil, 0, 2), "201"},
		"failed":                                     {podIn(corev1.PodFailed, corev1.ConditionTrue), policy(nil, 0, 2), "201"},
		"waiting":                                    {podIn(corev1.PodPending, ""), policy(nil, 0, 2), "201"},
		"going":                                      {going(running()), policy(nil, 0, 2), "201"},
		"a budget that selects nothing":              {running(), func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = nil }, "201"},
		"a budget that selects all pods":             {running(), func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = &metav1.LabelSelector{} }, fmt.Sprintf(needs, 0, 0)},
		"a budget of others":                         {running(), func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector.MatchLabels["app"] = "y" }, "201"},
		"allowed":                                    {running(), func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = 1 }, "201"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newEvictions(t, c.pod, budgetWith("b", c.budget))
			before, unasked := v.budget("b"), v.pod().ResourceVersion
			if got := v.evict("p", nil, "All"); got != c.want {
				t.Errorf("to try: %s, want %s", got, c.want)
			}
			if p := v.pod(); p == nil || p.ResourceVersion != unasked {
				t.Error("a trial changed the pod")
			}
			if got := v.budget("b"); fmt.Sprint(got) != fmt.Sprint(before) {
				t.Errorf("a trial left %v", got)
			}
			if got := v.evict("p", nil); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			p := v.pod()
			if out := p == nil || p.DeletionTimestamp != nil; out != (c.want == "201") && name != "going" {
				t.Errorf("the pod is gone or going: %t", out)
			}
			if p != nil && c.want == "201" {
				if last := p.Status.Conditions[len(p.Status.Conditions)-1]; last.Type != corev1.DisruptionTarget || last.Status != corev1.ConditionTrue || last.Reason != "EvictionByEvictionAPI" || last.Message != "Eviction API: evicting" {
					t.Errorf("the pod says %v", last)
				}
			}
			if s := v.budget("b"); name == "allowed" {
				cond := s.Conditions[0]
				if s.DisruptionsAllowed != 0 || len(s.DisruptedPods) != 1 || cond.Reason != policyv1.InsufficientPodsReason || cond.Status != metav1.ConditionFalse {
					t.Errorf("%+v", s)
				}
			} else if fmt.Sprint(s) != fmt.Sprint(before) {
				t.Errorf("left %v", s)
			}
		})
	}
}

func going(p *corev1.Pod) *corev1.Pod {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1, 0)}, new(int64(30))
	return p
}

// TestEvictionRefused is about requests that are wrong, or wrong by now.
func TestEvictionRefused(t *testing.T) {
	one := func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = 1 }
	v := newEvictions(t, podIn(corev1.PodRunning, corev1.ConditionTrue), budgetWith("a", one), budgetWith("b", one))
	if got, want := v.evict("p", nil), "500 : This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."; got != want {
		t.Errorf("two budgets: %s", got)
	}
	for _, name := range []string{"", "q"} {
		if got, want := v.evict(name, nil), "400 BadRequest: name in URL does not match name in Eviction object"; got != want {
			t.Errorf("name %q: %s", name, got)
		}
	}
	if got, want := v.evict("p", &metav1.DeleteOptions{DryRun: []string{"All", "All"}}, "All"), "500 : Non-matching dry-run options in request and content: [All] and [All All]"; got != want {
		t.Error(got)
	}
	for _, pod := range []*corev1.Pod{podIn(corev1.PodRunning, corev1.ConditionTrue), podIn(corev1.PodPending, ""), podIn(corev1.PodFailed, ""), podIn(corev1.PodRunning, corev1.ConditionFalse)} {
		v := newEvictions(t, pod, budgetWith("b", func(b *policyv1.PodDisruptionBudget) {
			b.Status.DisruptionsAllowed, b.Status.CurrentHealthy, b.Status.DesiredHealthy = 2, 1, 1
		}))
		uid, old, now := types.UID("other"), "7", v.pod().ResourceVersion
		if got, want := v.evict("p", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}), `409 Conflict: Operation cannot be fulfilled on Pod "p": the UID in the precondition (other) does not match the UID in record (u). The object might have been deleted and then recreated`; got != want {
			t.Error(got)
		}
		if got, want := v.evict("p", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &old}}), `409 Conflict: Operation cannot be fulfilled on Pod "p": the ResourceVersion in the precondition (7) does not match the ResourceVersion in record (`+now+`). The object might have been modified`; got != want {
			t.Error(got)
		}
		if p := v.pod(); p.DeletionTimestamp != nil || len(p.Status.Conditions) > 1 || p.ResourceVersion != now {
			t.Errorf("%v %+v", p.DeletionTimestamp, p.Status)
		}
		if got := v.evict("p", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &now, UID: new(types.UID("u"))}}); got != "201" {
			t.Error(got)
		}
		if p := v.pod(); p != nil && (p.DeletionTimestamp == nil || !strings.Contains(fmt.Sprint(p.Status.Conditions), "EvictionByEvictionAPI")) {
			t.Errorf("%v %+v", p.DeletionTimestamp, p.Status)
		}
	}
}

// TestEvictionOfWhatBecomesReady has a pod that may go, being unready, become ready
// just before it is deleted.
func TestEvictionOfWhatBecomesReady(t *testing.T) {
	for name, c := range map[string]struct {
		phase   corev1.PodPhase
		current int32
		want    string
	}{
		"it was waiting": {corev1.PodPending, 0, violates + " | DisruptionBudget: The disruption budget b needs 1 healthy pods and has 0 currently"},
		"it was unready": {corev1.PodRunning, 1, violates + " (10s) | DisruptionBudget: The disruption budget b is still being processed by the server."},
	} {
		t.Run(name, func(t *testing.T) {
			v := newEvictions(t, podIn(c.phase, corev1.ConditionFalse), budgetWith("b", func(b *policyv1.PodDisruptionBudget) {
				b.Status.CurrentHealthy, b.Status.DesiredHealthy = c.current, 1
			}))
			v.m.meddle = func() {
				p := v.pod()
				p.Status.Phase, p.Status.Conditions[0].Status = corev1.PodRunning, corev1.ConditionTrue
				t := v.target(p, "p")
				t.Subresource = "status"
				if _, _, err := v.e.Update(v.Context(), resource.Caller{}, t, p, &metav1.UpdateOptions{}); err != nil {
					v.Fatal(err)
				}
			}
			if got := v.evict("p", nil); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if p := v.pod(); p == nil || p.DeletionTimestamp != nil {
				t.Error("a ready pod was evicted without leave of its budget")
			}
		})
	}
}
