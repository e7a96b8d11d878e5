package authz

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/kinds/storage"
)

// claimStatus lets a node report how large the volumes of its pods have become.
func (n *Node) claimStatus(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	if !verb(a, "update", "patch") {
		return "can only get/update/patch this type", false
	}
	return n.related(ctx, node, a)
}

// volume lets a node read the volumes that its pods use, and follow and write
// those of the built-in driver that lie on it; of these NodeRestriction lets it
// change no more than that they are gone.
func (n *Node) volume(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	if a.GetSubresource() != "" {
		return "cannot use subresource", false
	}
	no := fmt.Sprintf("no relationship found between node '%s' and this object", node)
	switch a.GetVerb() {
	case "list", "watch":
		if a.GetName() != "" {
			return no, false
		}
		selector, err := a.GetLabelSelector()
		if err != nil {
			return err.Error(), false
		}
		for _, r := range selector {
			if r.Key() == storage.LocalNodeLabel && (r.Operator() == selection.Equals || r.Operator() == selection.DoubleEquals || r.Operator() == selection.In) &&
				r.Values().Len() == 1 && r.Values().Has(node) {
				return "", true
			}
		}
		return fmt.Sprintf("can only list/watch persistentvolumes with label selector %s=%s", storage.LocalNodeLabel, node), false
	case "get", "update", "patch":
	default:
		return "can only get, list, watch and update persistentvolumes", false
	}
	if err := n.volumes.Need(ctx); err != nil {
		return err.Error(), false
	}
	v, ok := n.volumes.Get("", a.GetName())
	if !ok {
		return no, false
	}
	if v.Labels[storage.LocalNodeLabel] == node {
		return "", true
	}
	if a.GetVerb() == "get" {
		switch ok, err := n.mounts(ctx, node, v); {
		case err != nil:
			return err.Error(), false
		case ok:
			return "", true
		}
	}
	return no, false
}
