package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/apiserver/resource"
	"sagong/client"
)

// PodNodeSelector gives pods the node selector of their namespace, and keeps them
// to what is allowed there. It is off unless asked for.
type PodNodeSelector struct {
	Client client.Client
	// Selectors are those that a namespace allows, by its name, and the default of
	// namespaces without one of their own.
	Selectors map[string]string
}

const (
	nodeSelectorAnnotation = "scheduler.alpha.kubernetes.io/node-selector"
	defaultNodeSelector    = "clusterDefaultNodeSelector"
)

// Name implements Plugin.
func (PodNodeSelector) Name() string { return "PodNodeSelector" }

// Admit implements Mutator.
func (s PodNodeSelector) Admit(ctx context.Context, a *resource.Attributes) error {
	if !onPodCreate(a) {
		return nil
	}
	p := a.Object.(*corev1.Pod)
	own, err := s.fits(ctx, a, p)
	if err != nil {
		return err
	}
	if merged := labels.Merge(own, p.Spec.NodeSelector); len(merged) > 0 {
		p.Spec.NodeSelector = merged
	}
	return s.Validate(ctx, a)
}

var (
	errNodeSelector        = errors.New("pod node label selector conflicts with its namespace node label selector")
	errNodeSelectorAllowed = errors.New("pod node label selector labels conflict with its namespace whitelist")
)

// Validate implements Validator.
func (s PodNodeSelector) Validate(ctx context.Context, a *resource.Attributes) error {
	if !onPodCreate(a) {
		return nil
	}
	p := a.Object.(*corev1.Pod)
	if _, err := s.fits(ctx, a, p); err != nil {
		return err
	}
	allowed, err := labels.ConvertSelectorToLabelsMap(s.Selectors[a.Namespace])
	if err != nil {
		return err
	}
	if len(allowed) == 0 {
		return nil
	}
	for k, v := range p.Spec.NodeSelector {
		if w, ok := allowed[k]; !ok || w != v {
			return refuse(a, errNodeSelectorAllowed)
		}
	}
	return nil
}

// fits returns the namespace's selector if the pod's own does not contradict it.
func (s PodNodeSelector) fits(ctx context.Context, a *resource.Attributes, p *corev1.Pod) (labels.Set, error) {
	own, err := s.selectorOf(ctx, a.Namespace)
	if err == nil && labels.Conflicts(own, p.Spec.NodeSelector) {
		err = refuse(a, errNodeSelector)
	}
	return own, err
}

func (s PodNodeSelector) selectorOf(ctx context.Context, namespace string) (labels.Set, error) {
	ns, err := client.Get[*corev1.Namespace](ctx, s.Client, "", namespace)
	if apierrors.IsNotFound(err) {
		return nil, apierrors.NewInternalError(fmt.Errorf("namespace %s does not exist", namespace))
	}
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	text, ok := ns.Annotations[nodeSelectorAnnotation]
	if !ok {
		text = s.Selectors[defaultNodeSelector]
	}
	return labels.ConvertSelectorToLabelsMap(text)
}
