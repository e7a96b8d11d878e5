package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/kinds/podspec"
)

// PodTolerationRestriction gives pods the tolerations of their namespace, and keeps
// them to what is allowed there. It is off unless asked for.
type PodTolerationRestriction struct {
	Client client.Client
	TolerationRules
}

// TolerationRules are for namespaces that say nothing themselves.
type TolerationRules struct {
	Default []corev1.Toleration `json:"default,omitempty"`
	Allowed []corev1.Toleration `json:"whitelist,omitempty"`
}

const (
	defaultTolerationsAnnotation = "scheduler.alpha.kubernetes.io/defaultTolerations"
	allowedTolerationsAnnotation = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
)

// Name implements Plugin.
func (PodTolerationRestriction) Name() string { return "PodTolerationRestriction" }

// Admit implements Mutator.
func (r PodTolerationRestriction) Admit(ctx context.Context, a *resource.Attributes) error {
	p := onPodWrite(a)
	if p == nil {
		return nil
	}
	var add []corev1.Toleration
	if a.Operation == resource.Create {
		own, err := r.of(ctx, a.Namespace, defaultTolerationsAnnotation)
		if err != nil {
			return err
		}
		if add = own; own == nil {
			add = r.Default
		}
	}
	all := append(slices.Clone(add), p.Spec.Tolerations...)
	if podspec.QOS(&p.Spec) != corev1.PodQOSBestEffort {
		all = append(all, corev1.Toleration{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	p.Spec.Tolerations = mergeTolerations(all)
	return r.Validate(ctx, a)
}

// Validate implements Validator.
func (r PodTolerationRestriction) Validate(ctx context.Context, a *resource.Attributes) error {
	p := onPodWrite(a)
	if p == nil || len(p.Spec.Tolerations) == 0 {
		return nil
	}
	allowed, err := r.of(ctx, a.Namespace, allowedTolerationsAnnotation)
	if err != nil {
		return err
	}
	scope := "namespace"
	if allowed == nil {
		allowed, scope = r.Allowed, "cluster"
	}
	if len(allowed) == 0 {
		return nil
	}
	for _, t := range p.Spec.Tolerations {
		if !slices.ContainsFunc(allowed, func(o corev1.Toleration) bool { return covers(o, t) }) {
			return fmt.Errorf("pod tolerations (possibly merged with %s default tolerations) conflict with its %s whitelist", scope, scope)
		}
	}
	return nil
}

// of reads the tolerations in a namespace's annotation; nil without one.
func (r PodTolerationRestriction) of(ctx context.Context, namespace, annotation string) ([]corev1.Toleration, error) {
	ns, err := client.Get[*corev1.Namespace](ctx, r.Client, "", namespace)
	if err != nil {
		return nil, err
	}
	text, ok := ns.Annotations[annotation]
	if !ok {
		return nil, nil
	}
	list := []corev1.Toleration{}
	if text == "" {
		return list, nil
	}
	return list, json.Unmarshal([]byte(text), &list)
}
