package resource

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

const (
	budgetText = "Cannot evict pod as it would violate the pod's disruption budget."
	// maxDisrupted bounds the evictions a budget may have under way.
	maxDisrupted = 2000
)

// evict is pods/eviction: a delete that disruption budgets may forbid.
func (e *Engine) evict(ctx context.Context, c Caller, t Target, ev *policyv1.Eviction, o *metav1.CreateOptions) (runtime.Object, error) {
	if ev.Name != "" && ev.Name != t.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	main := t
	main.Subresource = ""
	_, old, err := e.read(ctx, main)
	if err != nil {
		return nil, err
	}
	pod := old.(*corev1.Pod)
	del := ev.DeleteOptions
	if del == nil {
		del = &metav1.DeleteOptions{}
	}
	if dryRun(o.DryRun) {
		del.DryRun = o.DryRun
	}
	if del.Preconditions != nil && del.Preconditions.UID != nil && *del.Preconditions.UID != pod.UID {
		return nil, precondition(main, del, pod)
	}
	if !evictsFreely(pod) {
		rev, err := e.askBudgets(ctx, pod, dryRun(del.DryRun))
		if err != nil {
			return nil, err
		}
		if rev != "" && (del.Preconditions == nil || del.Preconditions.ResourceVersion == nil) {
			// The permission was for this state of an unready pod.
			p := metav1.Preconditions{}
			if del.Preconditions != nil {
				p = *del.Preconditions
			}
			p.ResourceVersion = &rev
			del.Preconditions = &p
		}
	}
	if del.Preconditions == nil {
		del.Preconditions = &metav1.Preconditions{UID: &pod.UID}
	}
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		p := *old.(*corev1.Pod)
		now := metav1.Unix(e.now().Unix(), 0)
		p.Status.Conditions = setDisruption(p.Status.Conditions, now, p.Generation)
		return &p, nil
	}
	if !dryRun(del.DryRun) && pod.DeletionTimestamp == nil && pod.Spec.NodeName != "" && (del.Preconditions.ResourceVersion == nil) {
		if r := e.run(ctx, e.rewrite(main, ch, false)); r.err != nil {
			return nil, r.err
		}
	}
	if _, _, err := e.Delete(ctx, c, main, del); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
}

// setDisruption marks a pod as ended by the eviction API.
func setDisruption(conditions []corev1.PodCondition, now metav1.Time, generation int64) []corev1.PodCondition {
	out := make([]corev1.PodCondition, 0, len(conditions)+1)
	for _, c := range conditions {
		if c.Type != corev1.DisruptionTarget {
			out = append(out, c)
		}
	}
	return append(out, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
		Message: "Eviction API: evicting", LastTransitionTime: now, ObservedGeneration: generation,
	})
}

func evictsFreely(p *corev1.Pod) bool {
	switch p.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return true
	}
	return p.DeletionTimestamp != nil
}

// askBudgets takes a permission from the pod's disruption budget. It returns the
// pod's resourceVersion when the permission holds for that state only.
func (e *Engine) askBudgets(ctx context.Context, pod *corev1.Pod, dry bool) (string, error) {
	def := e.scheme.ByObject(&policyv1.PodDisruptionBudget{})
	if def == nil {
		return "", nil
	}
	t := Target{Kind: e.Kind(def), Namespace: pod.Namespace}
	list, err := e.List(ctx, t, ListOptions{})
	if err != nil {
		return "", err
	}
	var mine *policyv1.PodDisruptionBudget
	for _, it := range list.Items {
		o, err := it.Shared()
		if err != nil {
			return "", apierrors.NewInternalError(err)
		}
		b := o.(*policyv1.PodDisruptionBudget)
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !sel.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if mine != nil {
			return "", apierrors.NewInternalError(errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
		}
		mine = b
	}
	if mine == nil {
		return "", nil
	}
	t.Name = mine.Name
	if !podReady(pod) {
		always := mine.Spec.UnhealthyPodEvictionPolicy != nil && *mine.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow
		healthy := mine.Status.CurrentHealthy >= mine.Status.DesiredHealthy && mine.Status.DesiredHealthy > 0
		if always || healthy {
			return pod.ResourceVersion, nil
		}
	}
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		b := old.(*policyv1.PodDisruptionBudget).DeepCopy()
		return b, e.takeDisruption(b, pod)
	}
	return "", e.run(ctx, e.rewrite(t, ch, dry)).err
}

// takeDisruption notes on a budget that a pod is going.
func (e *Engine) takeDisruption(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) error {
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return tooManyDisruptions(10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name))
	case b.Status.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, errors.New("pdb disruptions allowed is negative"))
	case len(b.Status.DisruptedPods) > maxDisrupted:
		return apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case b.Status.DisruptionsAllowed == 0:
		return tooManyDisruptions(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy))
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&b.Status.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse,
			Reason: policyv1.InsufficientPodsReason, ObservedGeneration: b.Status.ObservedGeneration,
		})
	}
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod.Name] = metav1.Unix(e.now().Unix(), 0)
	return nil
}

func tooManyDisruptions(retryAfter int, cause string) error {
	s := apierrors.NewTooManyRequests(budgetText, retryAfter)
	s.ErrStatus.Details.Causes = append(s.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return s
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
