package workloads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type statefulSetController struct {
	sets    *reconcile.View[*appsv1.StatefulSet]
	pods    *reconcile.View[*corev1.Pod]
	claims  *reconcile.View[*corev1.PersistentVolumeClaim]
	history history
	events  client.Recorder
	m       *Metrics
}

// NewStatefulSet returns the controller of StatefulSets.
func NewStatefulSet(h *reconcile.Hub, events client.Recorder, m *Metrics) reconcile.Controller {
	c := &statefulSetController{
		sets: reconcile.ViewOf[*appsv1.StatefulSet](h), pods: reconcile.ViewOf[*corev1.Pod](h),
		claims: reconcile.ViewOf[*corev1.PersistentVolumeClaim](h), history: newHistory(h), events: events, m: m,
	}
	reconcile.IndexOwners(c.pods)
	return c
}

func (c *statefulSetController) Name() string { return "statefulset" }

func (c *statefulSetController) Inputs() []reconcile.Input {
	gk := c.sets.Definition().GVK().GroupKind()
	return []reconcile.Input{
		reconcile.Self(c.sets),
		reconcile.Owner(c.pods, gk),
		reconcile.On(c.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if new == nil || metav1.GetControllerOfNoCopy(new) != nil || !orphanMatters(old, new) {
				return
			}
			if i := strings.LastIndexByte(new.Name, '-'); i > 0 {
				enqueue(object.Key{Namespace: new.Namespace, Name: new.Name[:i]})
			}
		}),
		reconcile.Owner(c.history.revisions, gk),
		reconcile.Reads(c.claims),
	}
}

func (c *statefulSetController) Outputs() []reconcile.Output {
	return []reconcile.Output{
		{Kind: c.sets.Definition().GVK().GroupKind(), Field: "status"},
		{Kind: c.pods.Definition().GVK().GroupKind(), Field: "of StatefulSet"},
		{Kind: c.claims.Definition().GVK().GroupKind(), Field: "of StatefulSet"},
		{Kind: c.history.revisions.Definition().GVK().GroupKind(), Field: "of StatefulSet"},
	}
}

func (c *statefulSetController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	set, ok := c.sets.Get(key.Namespace, key.Name)
	if !ok {
		c.m.gone(key.Namespace, key.Name)
		return reconcile.Result{}, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || selector.Empty() {
		return reconcile.Result{}, nil // validation refuses such; nothing to retry
	}
	pods, err := reconcile.Claim(ctx, w, c.pods, set, func(p *corev1.Pod) bool { return member(set, selector, p) })
	if err != nil {
		return reconcile.Result{}, err
	}
	data, err := templatePatch(&set.Spec.Template)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("cannot print template: %w", err)
	}
	collisions := deref32(set.Status.CollisionCount, 0)
	update, old, err := c.history.sync(ctx, w, wantedRevision{
		owner: set, kind: c.sets.Definition(), selector: selector, labels: set.Spec.Template.Labels, data: data,
		hash: dataHash(data, collisions), labelled: "controller.kubernetes.io/hash",
	})
	if errors.Is(err, errCollision) {
		next := set.DeepCopy()
		collisions++
		next.Status.CollisionCount = &collisions
		_, updateErr := client.UpdateStatus(ctx, w, next)
		return reconcile.Result{}, errors.Join(err, updateErr)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	current := update
	for _, r := range old {
		if r.Name == set.Status.CurrentRevision {
			current = r
		}
	}
	status := *set.Status.DeepCopy()
	status.CurrentRevision, status.UpdateRevision, status.CollisionCount = current.Name, update.Name, &collisions
	plan := planStateful(set, pods, status, time.Now())
	c.m.stateful(set, &plan.status)
	manageErr := c.carryOut(ctx, w, set, &plan, current, update)
	if err := errors.Join(manageErr, c.writeStatus(ctx, w, set, plan.status)); err != nil {
		return reconcile.Result{}, err
	}
	limit := int(deref32(set.Spec.RevisionHistoryLimit, 10))
	err = c.history.trim(ctx, w, old, limit, func(r *appsv1.ControllerRevision) bool {
		return r == current || slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Labels[revisionHashLabel] == r.Name })
	})
	return reconcile.Result{After: plan.after}, err
}

func (c *statefulSetController) writeStatus(ctx context.Context, w client.Client, set *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(set.Status, status) {
		return nil
	}
	next := set.DeepCopy()
	next.Status = status
	if _, err := client.UpdateStatus(ctx, w, next); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot update status: %w", err)
	}
	return nil
}

// templateOf reads a template back from the revision that recorded it.
func templateOf(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var patch struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &patch); err != nil {
		return nil, fmt.Errorf("cannot read revision %s: %w", r.Name, err)
	}
	return &patch.Spec.Template, nil
}

// carryOut writes what is planned, and takes out of the planned status the pods
// that could not be made. One pod's failure does not hold up the others.
func (c *statefulSetController) carryOut(ctx context.Context, w client.Client, set *appsv1.StatefulSet, plan *statefulPlan, current, update *appsv1.ControllerRevision) error {
	for p, condemned := range plan.owners(c.pods, set) {
		if err := c.syncClaimOwners(ctx, w, set, p, condemned); err != nil {
			for _, unmade := range plan.create {
				plan.uncount(unmade)
			}
			return err
		}
	}
	var errs []error
	for _, p := range plan.claims {
		errs = append(errs, c.ensureClaims(ctx, w, set, p))
	}
	for _, p := range plan.identify {
		errs = append(errs, c.identify(ctx, w, set, p))
	}
	var writes []client.Write
	var making []statefulPod
	var names []string
	for _, next := range plan.create {
		p, err := c.newPod(ctx, w, set, next, current, update)
		if err != nil {
			plan.uncount(next)
			errs = append(errs, err)
			continue
		}
		making, names = append(making, next), append(names, p.Name)
		writes = append(writes, client.Write{Op: client.OpCreate, Definition: c.pods.Definition(), Object: p})
	}
	for _, p := range plan.delete {
		names = append(names, p.Name)
		writes = append(writes, deletion(c.pods.Definition(), p))
	}
	if len(writes) == 0 {
		return errors.Join(errs...)
	}
	for i, r := range w.Batch(ctx, writes) {
		verb, reason := "delete", "Delete"
		if i < len(making) {
			verb, reason = "create", "Create"
			if r.Err != nil {
				plan.uncount(making[i])
			}
		}
		switch {
		case r.Err == nil:
			c.events.Eventf(set, corev1.EventTypeNormal, "Successful"+reason, "%s Pod %s in StatefulSet %s successful", verb, names[i], set.Name)
		case verb == "delete" && apierrors.IsNotFound(r.Err), apierrors.HasStatusCause(r.Err, corev1.NamespaceTerminatingCause):
		default:
			c.events.Eventf(set, corev1.EventTypeWarning, "Failed"+reason, "%s Pod %s in StatefulSet %s failed error: %v", verb, names[i], set.Name, r.Err)
			errs = append(errs, fmt.Errorf("cannot %s pod %s: %w", verb, names[i], r.Err))
		}
	}
	return errors.Join(errs...)
}

// newPod is a pod to make, once its claims are there.
func (c *statefulSetController) newPod(ctx context.Context, w client.Client, set *appsv1.StatefulSet, next statefulPod, current, update *appsv1.ControllerRevision) (*corev1.Pod, error) {
	p, err := c.pod(set, next, current, update)
	if err != nil {
		return nil, err
	}
	for i := range set.Spec.VolumeClaimTemplates {
		name := claimName(&set.Spec.VolumeClaimTemplates[i], set, next.ordinal)
		if claim, ok := c.claims.Get(set.Namespace, name); ok && ofPodBefore(set, claim, p.Name) {
			return nil, fmt.Errorf("cannot create pod %s: claim %s goes with the pod before", p.Name, name)
		}
	}
	if err := c.ensureClaims(ctx, w, set, p); err != nil {
		c.events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Pod %s in StatefulSet %s failed error: %v", p.Name, set.Name, err)
		return nil, err
	}
	return p, nil
}

// ofPodBefore says of a claim whether it goes with a pod that had the name that
// a new one is to have: who took it would lose it.
func ofPodBefore(set *appsv1.StatefulSet, claim *corev1.PersistentVolumeClaim, pod string) bool {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	return policy != nil && policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType &&
		slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool {
			return r.APIVersion == "v1" && r.Kind == "Pod" && r.Name == pod
		})
}

// identify gives a member the labels that it is known by: one that was adopted, or
// that somebody has changed, may lack them.
func (c *statefulSetController) identify(ctx context.Context, w client.Client, set *appsv1.StatefulSet, p *corev1.Pod) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion, "labels": identity(p.Name, ordinalOf(set, p))}})
	if err != nil {
		return err
	}
	switch _, err = w.Patch(ctx, c.pods.Definition(), p.Namespace, p.Name, client.Patch{Type: types.MergePatchType, Data: body}); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		c.events.Eventf(set, corev1.EventTypeWarning, "FailedUpdate", "update Pod %s in StatefulSet %s failed error: %v", p.Name, set.Name, err)
		return fmt.Errorf("cannot update pod %s: %w", p.Name, err)
	}
	c.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulUpdate", "update Pod %s in StatefulSet %s successful", p.Name, set.Name)
	return nil
}

// identity are the labels that a member is known by.
func identity(pod string, ordinal int) map[string]string {
	return map[string]string{appsv1.StatefulSetPodNameLabel: pod, appsv1.PodIndexLabel: strconv.Itoa(ordinal)}
}

// owners are the pods whose claims may need other owners, and whether each is
// condemned; none when the set's policy keeps all claims.
func (plan *statefulPlan) owners(pods *reconcile.View[*corev1.Pod], set *appsv1.StatefulSet) map[*corev1.Pod]bool {
	if set.Spec.PersistentVolumeClaimRetentionPolicy == nil || len(set.Spec.VolumeClaimTemplates) == 0 {
		return nil
	}
	all := map[*corev1.Pod]bool{}
	for _, p := range reconcile.OwnedBy(pods, set.UID) {
		all[p] = plan.condemned[p]
	}
	return all
}

// pod makes a member of the set.
func (c *statefulSetController) pod(set *appsv1.StatefulSet, made statefulPod, current, update *appsv1.ControllerRevision) (*corev1.Pod, error) {
	template, revision := &set.Spec.Template, update.Name
	if made.current && current != update {
		before, err := templateOf(current)
		if err != nil {
			return nil, err
		}
		template, revision = before, current.Name
	}
	p := podFrom(template, set.Namespace, set.Name, metav1.NewControllerRef(set, c.sets.Definition().GVK()))
	p.GenerateName = ""
	p.Name = set.Name + "-" + strconv.Itoa(made.ordinal)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	maps.Copy(p.Labels, identity(p.Name, made.ordinal))
	p.Labels[revisionHashLabel] = revision
	p.Spec.Hostname, p.Spec.Subdomain = p.Name, set.Spec.ServiceName
	for _, t := range set.Spec.VolumeClaimTemplates {
		p.Spec.Volumes = slices.DeleteFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == t.Name })
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(&t, set, made.ordinal)},
		}})
	}
	return p, nil
}

func claimName(t *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", t.Name, set.Name, ordinal)
}

// ensureClaims makes the claims that a pod lacks. One on its way out must go
// first, as the pod would lose its volume with it.
func (c *statefulSetController) ensureClaims(ctx context.Context, w client.Client, set *appsv1.StatefulSet, p *corev1.Pod) error {
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		name := claimName(t, set, ordinalOf(set, p))
		if there, ok := c.claims.Get(set.Namespace, name); ok {
			if there.DeletionTimestamp != nil {
				return fmt.Errorf("pvc %s is being deleted", name)
			}
			continue
		}
		claim := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: set.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations)},
			Spec:       *t.Spec.DeepCopy(),
		}
		if claim.Labels == nil {
			claim.Labels = map[string]string{}
		}
		maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
		claim.OwnerReferences = c.claimOwners(set, p, false, nil)
		_, err := client.Create(ctx, w, claim)
		switch {
		case apierrors.IsAlreadyExists(err):
		case err != nil:
			c.events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Claim %s for Pod %s in StatefulSet %s failed error: %v", name, p.Name, set.Name, err)
			return fmt.Errorf("cannot create claim %s: %w", name, err)
		default:
			c.events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", name, p.Name, set.Name)
		}
	}
	return nil
}

// syncClaimOwners has claims deleted with what the retention policy says.
func (c *statefulSetController) syncClaimOwners(ctx context.Context, w client.Client, set *appsv1.StatefulSet, p *corev1.Pod, condemned bool) error {
	for i := range set.Spec.VolumeClaimTemplates {
		name := claimName(&set.Spec.VolumeClaimTemplates[i], set, ordinalOf(set, p))
		claim, ok := c.claims.Get(set.Namespace, name)
		if !ok && condemned {
			// The view may not have it yet, and once the pod is gone nobody comes back to it.
			live, err := client.Get[*corev1.PersistentVolumeClaim](ctx, w, set.Namespace, name)
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("cannot read claim %s: %w", name, err)
			}
			claim, ok = live, err == nil
		}
		if !ok || claim.DeletionTimestamp != nil {
			continue
		}
		refs := c.claimOwners(set, p, condemned, claim.OwnerReferences)
		if equality.Semantic.DeepEqual(refs, claim.OwnerReferences) {
			continue
		}
		// It is the set's size that says whose a claim is, and data hang on it.
		live, err := client.Get[*appsv1.StatefulSet](ctx, w, set.Namespace, set.Name)
		if err != nil {
			return fmt.Errorf("cannot read set before the owners of claim %s change: %w", claim.Name, err)
		}
		if live.UID != set.UID || live.Generation != set.Generation {
			return fmt.Errorf("cannot change owners of claim %s: the set has changed since", claim.Name)
		}
		if _, err := reconcile.PatchOwners(ctx, w, c.claims.Definition(), claim, refs); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot change owners of claim %s: %w", claim.Name, err)
		}
	}
	return nil
}

// claimOwners are the owners a claim should have: the set, when claims go with
// it; the pod, when it is condemned and claims go with the pods scaled away. The
// claim's other owners stay.
func (c *statefulSetController) claimOwners(set *appsv1.StatefulSet, p *corev1.Pod, condemned bool, have []metav1.OwnerReference) []metav1.OwnerReference {
	policy := set.Spec.PersistentVolumeClaimRetentionPolicy
	bySet := policy != nil && policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	byPod := policy != nil && policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType && condemned && p.UID != ""
	var refs []metav1.OwnerReference
	for _, r := range have {
		if r.UID == set.UID || p.UID != "" && r.UID == p.UID {
			continue
		}
		if r.Controller != nil && *r.Controller {
			return have // it is another's, who decides when it goes
		}
		refs = append(refs, r)
	}
	switch {
	case byPod:
		refs = append(refs, *metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod")))
	case bySet:
		refs = append(refs, *metav1.NewControllerRef(set, c.sets.Definition().GVK()))
	}
	return refs
}
