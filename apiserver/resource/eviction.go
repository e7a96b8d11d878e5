package resource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

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
	// maxEvictionTries bounds how often a pod is looked at anew that changes between
	// the look and the eviction.
	maxEvictionTries = 20
)

// evict is pods/eviction: a delete that disruption budgets may forbid.
func (e *Engine) evict(ctx context.Context, c Caller, t Target, ev *policyv1.Eviction, o *metav1.CreateOptions) (runtime.Object, error) {
	if ev.Name != t.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	del := ev.DeleteOptions
	switch {
	case del == nil:
		del = &metav1.DeleteOptions{DryRun: o.DryRun}
	case len(del.DryRun) == 0:
		del.DryRun = o.DryRun
	case len(o.DryRun) > 0 && !slices.Equal(o.DryRun, del.DryRun):
		return nil, bare(fmt.Sprintf("Non-matching dry-run options in request and content: %v and %v", o.DryRun, del.DryRun))
	}
	main := t
	main.Subresource = ""
	asked := del.Preconditions != nil && del.Preconditions.ResourceVersion != nil
	for try := 1; ; try++ {
		_, old, err := e.read(ctx, main)
		if err != nil {
			return nil, err
		}
		pod := old.(*corev1.Pod)
		if p := del.Preconditions; p != nil && p.UID != nil && *p.UID != pod.UID {
			return nil, precondition(main, del, pod) // takes nothing of a budget
		}
		opts := del.DeepCopy()
		if opts.Preconditions == nil {
			opts.Preconditions = &metav1.Preconditions{UID: &pod.UID}
		}
		free := evictsFreely(pod)
		onlySo, budget := free && pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil, ""
		if !free {
			if budget, onlySo, err = e.askBudgets(ctx, pod, dryRun(del.DryRun)); err != nil {
				return nil, err
			}
		}
		if onlySo && !asked {
			// What was decided holds for this state of a pod that may become ready.
			opts.Preconditions.ResourceVersion = &pod.ResourceVersion
		}
		err = e.evictNow(ctx, c, main, opts)
		switch {
		case err == nil:
			return &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
		case asked || !onlySo || !apierrors.IsConflict(err):
			return nil, err
		case budget != "":
			return nil, tooManyDisruptions(10, beingProcessed(budget))
		case try == maxEvictionTries:
			return nil, err
		}
	}
}

// evictNow deletes a pod that may be evicted, and says why in its status before.
func (e *Engine) evictNow(ctx context.Context, c Caller, t Target, o *metav1.DeleteOptions) error {
	if !dryRun(o.DryRun) {
		r := e.run(ctx, e.rewrite(t, func(_ context.Context, old object.Object) (object.Object, error) {
			if err := precondition(t, o, old); err != nil {
				return nil, err
			}
			p := *old.(*corev1.Pod)
			p.Status.Conditions = setDisruption(p.Status.Conditions, metav1.Unix(e.now().Unix(), 0), p.Generation)
			return &p, nil
		}, false))
		if r.err != nil {
			return r.err
		}
		if o.Preconditions.ResourceVersion != nil {
			now := r.item.Revision().String()
			o.Preconditions.ResourceVersion = &now
		}
	}
	_, _, err := e.Delete(ctx, c, t, o)
	return err
}

// setDisruption marks a pod as ended by the eviction API.
func setDisruption(conditions []corev1.PodCondition, now metav1.Time, generation int64) []corev1.PodCondition {
	target := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
		Message: "Eviction API: evicting", LastTransitionTime: now, ObservedGeneration: generation,
	}
	out := slices.Clone(conditions)
	for i, c := range out {
		if c.Type == target.Type {
			if c.Status == target.Status {
				target.LastTransitionTime = c.LastTransitionTime
			}
			out[i] = target
			return out
		}
	}
	return append(out, target)
}

// bare is a failure that upstream gives no reason.
func bare(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: text}}
}

func evictsFreely(p *corev1.Pod) bool {
	switch p.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return true
	}
	return p.DeletionTimestamp != nil
}

// askBudgets takes a permission from the pod's disruption budget, and names that.
// onlySo says that the permission holds for the present state of the pod alone.
func (e *Engine) askBudgets(ctx context.Context, pod *corev1.Pod, dry bool) (budget string, onlySo bool, err error) {
	def := e.scheme.ByObject(&policyv1.PodDisruptionBudget{})
	if def == nil {
		return "", false, nil
	}
	t := Target{Kind: e.Kind(def), Namespace: pod.Namespace}
	list, err := e.List(ctx, t, ListOptions{})
	if err != nil {
		return "", false, err
	}
	var mine *policyv1.PodDisruptionBudget
	for _, it := range list.Items {
		o, err := it.Shared()
		if err != nil {
			return "", false, apierrors.NewInternalError(err)
		}
		b := o.(*policyv1.PodDisruptionBudget)
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !sel.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if mine != nil {
			return "", false, bare("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
		}
		mine = b
	}
	if mine == nil {
		return "", false, nil
	}
	t.Name = mine.Name
	if !podReady(pod) {
		always := mine.Spec.UnhealthyPodEvictionPolicy != nil && *mine.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow
		healthy := mine.Status.CurrentHealthy >= mine.Status.DesiredHealthy && mine.Status.DesiredHealthy > 0
		if always || healthy {
			return mine.Name, true, nil
		}
	}
	ch := func(_ context.Context, old object.Object) (object.Object, error) {
		b := old.(*policyv1.PodDisruptionBudget).DeepCopy()
		return b, e.takeDisruption(b, pod)
	}
	return mine.Name, false, e.run(ctx, e.rewrite(t, ch, dry)).err
}

// takeDisruption notes on a budget that a pod is going.
func (e *Engine) takeDisruption(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) error {
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return tooManyDisruptions(10, beingProcessed(b.Name))
	case b.Status.DisruptionsAllowed < 0:
		const text = "pdb disruptions allowed is negative"
		return brokenBudget(b, text, text)
	case len(b.Status.DisruptedPods) > maxDisrupted:
		return brokenBudget(b, "DisruptedPods map too big - too many evictions not confirmed by PDB controller", "too many pending evictions not confirmed by PDB controller")
	case b.Status.DisruptionsAllowed == 0:
		return tooManyDisruptions(0, whyNone(b))
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

// whyNone says why a budget allows no disruption. The counts of one that could not
// be worked out are not to be trusted.
func whyNone(b *policyv1.PodDisruptionBudget) string {
	cond := meta.FindStatusCondition(b.Status.Conditions, policyv1.DisruptionAllowedCondition)
	told := cond != nil && cond.Status == metav1.ConditionFalse && cond.Message != ""
	switch {
	case told && cond.Reason == policyv1.SyncFailedReason:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %s", b.Name, cond.Message)
	case b.Status.CurrentHealthy <= b.Status.DesiredHealthy:
		return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy)
	case told:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently (%s): %s", b.Name, cond.Reason, cond.Message)
	}
	return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently", b.Name)
}

func beingProcessed(budget string) string {
	return fmt.Sprintf("The disruption budget %s is still being processed by the server.", budget)
}

func tooManyDisruptions(retryAfter int, cause string) error {
	return becauseOfBudget(apierrors.NewTooManyRequests(budgetText, retryAfter), cause)
}

// brokenBudget refuses by a budget whose status makes no sense.
func brokenBudget(b *policyv1.PodDisruptionBudget, text, cause string) error {
	return becauseOfBudget(apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, errors.New(text)),
		fmt.Sprintf("The disruption budget %s does not allow evicting pods currently: %s", b.Name, cause))
}

func becauseOfBudget(s *apierrors.StatusError, cause string) error {
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
