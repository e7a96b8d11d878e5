package authz

import (
	"fmt"

	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/kinds/storage"
)

// claimStatus lets a node report how large the volumes of its pods have become.
func (n *Node) claimStatus(node string, a authorizer.Attributes) (authorizer.Decision, string, error) {
	switch a.GetVerb() {
	case "get", "update", "patch":
		return n.used(node, "persistentvolumeclaims", a)
	}
	return authorizer.DecisionNoOpinion, "can only get, update and patch persistentvolumeclaims/status", nil
}

// volume lets a node read the volumes that its pods use, and follow and write
// those of the built-in driver that lie on it; of these NodeRestriction lets it
// change no more than that they are gone.
func (n *Node) volume(node string, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetSubresource() != "" {
		return authorizer.DecisionNoOpinion, "cannot use subresource", nil
	}
	no := fmt.Sprintf("no relationship found between node '%s' and this object", node)
	switch a.GetVerb() {
	case "list", "watch":
		if a.GetName() != "" {
			return authorizer.DecisionNoOpinion, no, nil
		}
		selector, err := a.GetLabelSelector()
		if err != nil {
			return authorizer.DecisionNoOpinion, "", err
		}
		for _, r := range selector {
			if r.Key() == storage.LocalNodeLabel && (r.Operator() == selection.Equals || r.Operator() == selection.DoubleEquals || r.Operator() == selection.In) &&
				r.Values().Len() == 1 && r.Values().Has(node) {
				return authorizer.DecisionAllow, "", nil
			}
		}
		return authorizer.DecisionNoOpinion, fmt.Sprintf("can only list/watch persistentvolumes with label selector %s=%s", storage.LocalNodeLabel, node), nil
	case "get", "update", "patch":
	default:
		return authorizer.DecisionNoOpinion, "can only get, list, watch and update persistentvolumes", nil
	}
	v, ok := n.volumes.Get("", a.GetName())
	if !ok {
		return authorizer.DecisionNoOpinion, no, nil
	}
	if v.Labels[storage.LocalNodeLabel] == node {
		return authorizer.DecisionAllow, "", nil
	}
	if c := v.Spec.ClaimRef; a.GetVerb() == "get" && c != nil && len(n.pods.By(byUse, useKey(node, "persistentvolumeclaims", c.Namespace, c.Name))) > 0 {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, no, nil
}
