package admission

import (
	"context"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"

	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/client"
)

// NodeRestriction holds a node agent to its own node: its Node object, its
// lease, and the pods bound to it.
type NodeRestriction struct{ Client client.Client }

// Name implements Plugin.
func (NodeRestriction) Name() string { return "NodeRestriction" }

// Admit implements Mutator; it changes nothing, but must come first.
func (n NodeRestriction) Admit(ctx context.Context, a *resource.Attributes) error {
	node := authz.NodeName(a.User)
	if node == "" {
		return nil
	}
	switch a.Definition.Group + "/" + a.Definition.Resource {
	case "/pods":
		return n.pod(ctx, a, node)
	case "/nodes":
		return n.node(a, node)
	case "/serviceaccounts":
		return n.token(ctx, a, node)
	case coordinationv1.GroupName + "/leases":
		if a.Namespace != corev1.NamespaceNodeLease {
			return forbidden(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
		}
		if name := nameOf(a); name != node {
			return forbidden(a, "can only access node lease with the same name as the requesting node")
		}
	case storagev1.GroupName + "/csinodes":
		if nameOf(a) != node {
			return forbidden(a, "can only access CSINode with the same name as the requesting node")
		}
	case "/events":
	}
	return nil
}

func nameOf(a *resource.Attributes) string {
	if o, ok := a.Object.(interface{ GetName() string }); ok && a.Name == "" {
		return o.GetName()
	}
	return a.Name
}

func (n NodeRestriction) pod(ctx context.Context, a *resource.Attributes, node string) error {
	switch a.Subresource {
	case "":
		if a.Operation == resource.Create {
			pod := a.Object.(*corev1.Pod)
			if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
				return forbidden(a, "pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
			}
			if pod.Spec.NodeName != node {
				return forbidden(a, "node %q can only create pods with spec.nodeName set to itself", node)
			}
			return nil
		}
		if a.Operation == resource.Delete {
			return n.ownPod(ctx, a, node, "delete")
		}
		return forbidden(a, "unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
	case "status":
		return n.ownPod(ctx, a, node, "update status for")
	case "eviction":
		if e, ok := a.Object.(*policyv1.Eviction); ok && e.Name != "" && e.Name != a.Name {
			return forbidden(a, "could not determine pod from request data")
		}
		return n.ownPod(ctx, a, node, "evict")
	}
	return forbidden(a, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
}

func (n NodeRestriction) ownPod(ctx context.Context, a *resource.Attributes, node, verb string) error {
	pod, ok := a.Old.(*corev1.Pod)
	if !ok {
		var err error
		if pod, err = client.Get[*corev1.Pod](ctx, n.Client, a.Namespace, a.Name); err != nil {
			return err
		}
	}
	if pod.Spec.NodeName != node {
		return forbidden(a, "node %q can only %s pods with spec.nodeName set to itself", node, verb)
	}
	return nil
}

func (n NodeRestriction) node(a *resource.Attributes, node string) error {
	if nameOf(a) != node {
		return forbidden(a, "node %q is not allowed to modify node %q", node, nameOf(a))
	}
	now, ok := a.Object.(*corev1.Node)
	if !ok {
		return nil
	}
	var before map[string]string
	if old, ok := a.Old.(*corev1.Node); ok && old != nil {
		before = old.Labels
		if a.Subresource == "" && !sameTaints(old.Spec.Taints, now.Spec.Taints) {
			return forbidden(a, "node %q is not allowed to modify taints", node)
		}
	}
	for k, v := range now.Labels {
		if strings.Contains(k, "node-restriction.kubernetes.io/") && before[k] != v {
			return forbidden(a, "node %q is not allowed to modify labels: %s", node, k)
		}
	}
	for k := range before {
		if _, kept := now.Labels[k]; !kept && strings.Contains(k, "node-restriction.kubernetes.io/") {
			return forbidden(a, "node %q is not allowed to modify labels: %s", node, k)
		}
	}
	return nil
}

func sameTaints(a, b []corev1.Taint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Key != b[i].Key || a[i].Value != b[i].Value || a[i].Effect != b[i].Effect {
			return false
		}
	}
	return true
}

func (n NodeRestriction) token(ctx context.Context, a *resource.Attributes, node string) error {
	if a.Subresource != "token" || a.Operation != resource.Create {
		return nil
	}
	req, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return forbidden(a, "unexpected type %T", a.Object)
	}
	ref := req.Spec.BoundObjectRef
	if ref == nil || ref.Kind != "Pod" || ref.Name == "" {
		return forbidden(a, "node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return forbidden(a, "node requested token with a pod binding without a uid")
	}
	pod, err := client.Get[*corev1.Pod](ctx, n.Client, a.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if pod.UID != ref.UID {
		return forbidden(a, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != node {
		return forbidden(a, "node requested token bound to a pod scheduled on a different node")
	}
	return nil
}
