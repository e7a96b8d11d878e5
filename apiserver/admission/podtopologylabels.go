package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/apiserver/resource"
	"sagong/client"
)

// PodTopologyLabels copies the zone and the region of a node to the pods that are
// bound to it, unless they have such labels.
type PodTopologyLabels struct{ Client client.Client }

// Name implements Plugin.
func (PodTopologyLabels) Name() string { return "PodTopologyLabels" }

// Admit implements Mutator.
func (p PodTopologyLabels) Admit(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || a.Definition.GR() != podResource {
		return nil
	}
	switch o := a.Object.(type) {
	case *corev1.Pod:
		if o.Spec.NodeName != "" && a.Subresource == "" {
			return p.label(ctx, &o.Labels, o.Spec.NodeName)
		}
	case *corev1.Binding:
		if o.Target.Kind == "Node" && a.Subresource == "binding" {
			return p.label(ctx, &o.Labels, o.Target.Name)
		}
	}
	return nil
}

func (p PodTopologyLabels) label(ctx context.Context, labels *map[string]string, node string) error {
	n, err := client.Get[*corev1.Node](ctx, p.Client, "", node)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, k := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		v, ok := n.Labels[k]
		if _, has := (*labels)[k]; !ok || has {
			continue
		}
		if *labels == nil {
			*labels = map[string]string{}
		}
		(*labels)[k] = v
	}
	return nil
}
