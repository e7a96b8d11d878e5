package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	helpers "k8s.io/component-helpers/resource"

	"sagong/apiserver/resource"
	"sagong/client"
)

// LimitRanger gives containers the requests and limits that a LimitRange of the
// namespace has as defaults, and holds containers, pods and claims to its bounds.
// A resize or an expansion is held to them only in what it changes.
type LimitRanger struct{ Client client.Client }

// Name implements Plugin.
func (LimitRanger) Name() string { return "LimitRanger" }

// ranges are the LimitRanges that a write must obey.
func (l LimitRanger) ranges(ctx context.Context, a *resource.Attributes) ([]*corev1.LimitRange, error) {
	switch gr := a.Definition.GR(); {
	case gr == podResource && a.Subresource == "" && a.Operation == resource.Create:
	case gr == podResource && a.Subresource == "resize" && a.Operation == resource.Update:
	case on(a, "", "persistentvolumeclaims") && (a.Operation == resource.Create || a.Operation == resource.Update):
	default:
		return nil, nil
	}
	if a.Old != nil && a.Old.GetDeletionTimestamp() != nil {
		return nil, nil
	}
	all, _, err := client.ListOf[*corev1.LimitRange](ctx, l.Client, a.Namespace, client.ListOptions{})
	if err != nil {
		return nil, refuse(a, fmt.Errorf("unable to %s %v at this time because there was an error enforcing limit ranges", a.Operation, a.Definition.GVR()))
	}
	return all, nil
}

// Admit implements Mutator.
func (l LimitRanger) Admit(ctx context.Context, a *resource.Attributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	all, err := l.ranges(ctx, a)
	for _, r := range all {
		setDefaults(pod, r)
	}
	return err
}

// setDefaults fills in what containers leave open, and notes it on the pod.
func setDefaults(p *corev1.Pod, r *corev1.LimitRange) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range r.Spec.Limits {
		if item := &r.Spec.Limits[i]; item.Type == corev1.LimitTypeContainer {
			maps.Copy(requests, item.DefaultRequest)
			maps.Copy(limits, item.Default)
		}
	}
	var notes []string
	fill := func(list *corev1.ResourceList, from corev1.ResourceList, what, which, name string) {
		var set []string
		for n, q := range from {
			if _, ok := (*list)[n]; ok {
				continue
			}
			if *list == nil {
				*list = corev1.ResourceList{}
			}
			(*list)[n] = q.DeepCopy()
			set = append(set, string(n))
		}
		if len(set) > 0 {
			slices.Sort(set)
			notes = append(notes, fmt.Sprintf("%s %s for %s %s", strings.Join(set, ", "), what, which, name))
		}
	}
	each := func(list []corev1.Container, which string) {
		for i := range list {
			c := &list[i]
			fill(&c.Resources.Requests, requests, "request", which, c.Name)
			fill(&c.Resources.Limits, limits, "limit", which, c.Name)
		}
	}
	each(p.Spec.Containers, "container")
	each(p.Spec.InitContainers, "init container")
	if len(notes) > 0 {
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations["kubernetes.io/limit-ranger"] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
	}
}

// Validate implements Validator.
func (l LimitRanger) Validate(ctx context.Context, a *resource.Attributes) error {
	all, err := l.ranges(ctx, a)
	if err != nil {
		return err
	}
	for _, r := range all {
		var errs []error
		for i := range r.Spec.Limits {
			item := &r.Spec.Limits[i]
			switch o := a.Object.(type) {
			case *corev1.Pod:
				old, _ := a.Old.(*corev1.Pod)
				errs = append(errs, podBounds(item, o, old)...)
			case *corev1.PersistentVolumeClaim:
				old, _ := a.Old.(*corev1.PersistentVolumeClaim)
				errs = append(errs, claimBounds(item, o, old)...)
			}
		}
		if len(errs) > 0 {
			return refuse(a, utilerrors.NewAggregate(errs))
		}
	}
	return nil
}

// demand is what one container, pod or claim asks for, and what it asked for
// before; was is nil for a new one.
type demand struct{ is, was *corev1.ResourceRequirements }

// same says that a resource is asked for as before.
func (d demand) same(n corev1.ResourceName) bool {
	equal := func(a, b corev1.ResourceList) bool {
		p, has := a[n]
		q, had := b[n]
		return has == had && p.Cmp(q) == 0
	}
	return d.was != nil && equal(d.is.Requests, d.was.Requests) && equal(d.is.Limits, d.was.Limits)
}

func podBounds(item *corev1.LimitRangeItem, p, old *corev1.Pod) (errs []error) {
	switch item.Type {
	case corev1.LimitTypeContainer:
		each := func(list, before []corev1.Container) {
			for i := range list {
				d := demand{is: &list[i].Resources}
				if at := slices.IndexFunc(before, func(c corev1.Container) bool { return c.Name == list[i].Name }); at >= 0 {
					d.was = &before[at].Resources
				}
				errs = append(errs, bounds(item, d)...)
			}
		}
		var before, inits []corev1.Container
		if old != nil {
			before, inits = old.Spec.Containers, old.Spec.InitContainers
		}
		each(p.Spec.Containers, before)
		each(p.Spec.InitContainers, inits)
	case corev1.LimitTypePod:
		d := demand{is: total(p)}
		if old != nil {
			d.was = total(old)
		}
		errs = bounds(item, d)
	}
	return errs
}

// total is what a pod as a whole asks for, by its specification and without
// overhead.
func total(p *corev1.Pod) *corev1.ResourceRequirements {
	o := helpers.PodResourcesOptions{ExcludeOverhead: true}
	return &corev1.ResourceRequirements{Requests: helpers.PodRequests(p, o), Limits: helpers.PodLimits(p, o)}
}

func bounds(item *corev1.LimitRangeItem, d demand) (errs []error) {
	each := func(list corev1.ResourceList, rule func(kind, n string, bound kresource.Quantity, d *corev1.ResourceRequirements) error) {
		for _, n := range slices.Sorted(maps.Keys(list)) {
			if d.same(n) {
				continue
			}
			if err := rule(string(item.Type), string(n), list[n], d.is); err != nil {
				errs = append(errs, err)
			}
		}
	}
	each(item.Min, atLeast)
	each(item.Max, atMost)
	each(item.MaxLimitRequestRatio, atRatio)
	return errs
}

// claimBounds knows requests only: limits of claims mean nothing.
func claimBounds(item *corev1.LimitRangeItem, c, old *corev1.PersistentVolumeClaim) (errs []error) {
	if item.Type != corev1.LimitTypePersistentVolumeClaim {
		return nil
	}
	asks := &corev1.ResourceRequirements{Requests: c.Spec.Resources.Requests}
	each := func(list corev1.ResourceList, rule func(kind, n string, bound kresource.Quantity, d *corev1.ResourceRequirements) error) {
		for _, n := range slices.Sorted(maps.Keys(list)) {
			if q, ok := asks.Requests[n]; ok && old != nil {
				if was, had := old.Spec.Resources.Requests[n]; had && was.Cmp(q) == 0 {
					continue
				}
			}
			if err := rule(string(item.Type), string(n), list[n], asks); err != nil {
				errs = append(errs, err)
			}
		}
	}
	each(item.Min, atLeast)
	each(item.Max, requestAtMost)
	return errs
}
