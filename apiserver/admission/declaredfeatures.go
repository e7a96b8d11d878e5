package admission

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/version"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/config"
	"sagong/object/equal"
)

// NodeDeclaredFeatureValidator refuses an update of a pod that its node can not
// carry out, for want of a feature that it does not declare.
type NodeDeclaredFeatureValidator struct{ Client client.Client }

// Name implements Plugin.
func (NodeDeclaredFeatureValidator) Name() string { return "NodeDeclaredFeatureValidator" }

var servedVersion = version.MustParseSemantic(config.KubernetesVersion)

// Validate implements Validator.
func (r NodeDeclaredFeatureValidator) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Update || a.Definition.GR() != podResource || a.Subresource != "" && a.Subresource != "resize" {
		return nil
	}
	p, old := a.Object.(*corev1.Pod), a.Old.(*corev1.Pod)
	if p.Spec.NodeName == "" {
		return nil
	}
	all := ndf.DefaultFramework
	needs, err := all.InferForPodUpdate(&ndf.PodInfo{Spec: &old.Spec, Status: &old.Status}, &ndf.PodInfo{Spec: &p.Spec, Status: &p.Status}, servedVersion)
	if err != nil {
		return refuse(a, fmt.Errorf("failed to infer pod capability requirements: %w", err))
	}
	if needs.IsEmpty() || equal.Semantic(&p.Spec, &old.Spec) { // the same, written differently
		return nil
	}
	n, err := client.Get[*corev1.Node](ctx, r.Client, "", p.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return refuse(a, fmt.Errorf("node %q not found", p.Spec.NodeName))
	}
	if err != nil {
		return refuse(a, fmt.Errorf("failed to get node %q: %w", p.Spec.NodeName, err))
	}
	switch result, err := all.MatchNode(needs, n); {
	case err != nil:
		return refuse(a, fmt.Errorf("failed to match pod requirements against node %q: %w", n.Name, err))
	case !result.IsMatch:
		return refuse(a, fmt.Errorf("pod update requires features %s which are not available on node %q", strings.Join(result.UnsatisfiedRequirements, ", "), n.Name))
	}
	return nil
}
