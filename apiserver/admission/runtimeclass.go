package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/apiserver/resource"
	"sagong/client"
)

// RuntimeClass gives a pod the overhead, the node selector and the tolerations of
// the runtime class it names, which must exist.
type RuntimeClass struct{ Client client.Client }

// Name implements Plugin.
func (RuntimeClass) Name() string { return "RuntimeClass" }

// class is the one a pod names; nil when it names none.
func (r RuntimeClass) class(ctx context.Context, a *resource.Attributes, p *corev1.Pod) (*nodev1.RuntimeClass, error) {
	if p.Spec.RuntimeClassName == nil {
		return nil, nil
	}
	c, err := client.Get[*nodev1.RuntimeClass](ctx, r.Client, "", *p.Spec.RuntimeClassName)
	if apierrors.IsNotFound(err) {
		return nil, refuse(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", *p.Spec.RuntimeClassName))
	}
	return c, err
}

var (
	errOverhead      = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	errOtherOverhead = errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
)

// Admit implements Mutator.
func (r RuntimeClass) Admit(ctx context.Context, a *resource.Attributes) error {
	if !onPodCreate(a) {
		return nil
	}
	p := a.Object.(*corev1.Pod)
	c, err := r.class(ctx, a, p)
	if err != nil || c == nil {
		return err
	}
	if c.Overhead != nil {
		if p.Spec.Overhead != nil && !equality.Semantic.DeepEqual(c.Overhead.PodFixed, p.Spec.Overhead) {
			return refuse(a, errOverhead)
		}
		p.Spec.Overhead = c.Overhead.DeepCopy().PodFixed
	}
	s := c.Scheduling
	if s == nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		if v, ok := p.Spec.NodeSelector[k]; ok && v != s.NodeSelector[k] {
			return refuse(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", k, s.NodeSelector[k], k, v))
		}
	}
	if len(s.NodeSelector) > 0 {
		if p.Spec.NodeSelector == nil {
			p.Spec.NodeSelector = map[string]string{}
		}
		maps.Copy(p.Spec.NodeSelector, s.NodeSelector)
	}
	p.Spec.Tolerations = mergeTolerations(append(slices.Clone(p.Spec.Tolerations), s.DeepCopy().Tolerations...))
	return nil
}

// Validate implements Validator: no later rule changed the overhead.
func (r RuntimeClass) Validate(ctx context.Context, a *resource.Attributes) error {
	if !onPodCreate(a) {
		return nil
	}
	p := a.Object.(*corev1.Pod)
	c, err := r.class(ctx, a, p)
	switch {
	case err != nil:
		return err
	case c != nil && c.Overhead != nil:
		if !equality.Semantic.DeepEqual(c.Overhead.PodFixed, p.Spec.Overhead) {
			return refuse(a, errOverhead)
		}
	case p.Spec.Overhead != nil:
		return refuse(a, errOtherOverhead)
	}
	return nil
}

// mergeTolerations leaves out those that others cover.
func mergeTolerations(all []corev1.Toleration) []corev1.Toleration {
	var merged []corev1.Toleration
	for i, t := range all {
		covered := slices.ContainsFunc(merged, func(o corev1.Toleration) bool { return covers(o, t) }) ||
			slices.ContainsFunc(all[i+1:], func(o corev1.Toleration) bool {
				return covers(o, t) && !equality.Semantic.DeepEqual(o, t)
			})
		if !covered {
			merged = append(merged, t)
		}
	}
	return merged
}

// covers reports whether whatever t tolerates, by does too.
func covers(by, t corev1.Toleration) bool {
	if equality.Semantic.DeepEqual(by, t) {
		return true
	}
	if t.Key != by.Key && (by.Key != "" || by.Operator != corev1.TolerationOpExists) {
		return false
	}
	if t.Effect != by.Effect && by.Effect != "" {
		return false
	}
	if by.Effect == corev1.TaintEffectNoExecute && by.TolerationSeconds != nil &&
		(t.TolerationSeconds == nil || *t.TolerationSeconds > *by.TolerationSeconds) {
		return false
	}
	switch by.Operator {
	case corev1.TolerationOpEqual, "":
		return (t.Operator == corev1.TolerationOpEqual || t.Operator == "") && t.Value == by.Value
	case corev1.TolerationOpExists:
		return true
	}
	return false
}
