package admission

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	helpers "k8s.io/component-helpers/resource"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object/equal"
)

// PodResizeValidator refuses a resize that the pod's node can never carry out.
type PodResizeValidator struct{ Client client.Client }

// Name implements Plugin.
func (PodResizeValidator) Name() string { return "PodResizeValidator" }

// Validate implements Validator.
func (r PodResizeValidator) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Update || a.Definition.GR() != podResource || a.Subresource != "resize" {
		return nil
	}
	p, old := a.Object.(*corev1.Pod), a.Old.(*corev1.Pod)
	if p.Spec.NodeName == "" || equal.Semantic(&p.Spec, &old.Spec) {
		return nil
	}
	n, err := client.Get[*corev1.Node](ctx, r.Client, "", p.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return refuse(a, fmt.Errorf("node %q not found", p.Spec.NodeName))
	}
	if err != nil {
		return refuse(a, fmt.Errorf("failed to get node %q: %w", p.Spec.NodeName, err))
	}
	requests := helpers.PodRequests(p, helpers.PodResourcesOptions{})
	var short []string
	if asked, has := requests.Cpu().MilliValue(), n.Status.Allocatable.Cpu().MilliValue(); asked > has {
		short = append(short, fmt.Sprintf("cpu, requested: %d, allocatable: %d", asked, has))
	}
	if asked, has := requests.Memory().Value(), n.Status.Allocatable.Memory().Value(); asked > has {
		short = append(short, fmt.Sprintf("memory, requested: %d, allocatable: %d", asked, has))
	}
	if len(short) > 0 {
		return refuse(a, fmt.Errorf("Node didn't have enough allocatable resources: %s", strings.Join(short, "; ")))
	}
	if os := n.Labels[corev1.LabelOSStable]; os != "linux" {
		return refuse(a, fmt.Errorf("pod resize is only supported on linux nodes, node %q is %q", n.Name, os))
	}
	return nil
}
