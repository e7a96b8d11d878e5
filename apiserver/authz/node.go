package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// NodeUserPrefix precedes a node's name in its user name.
const NodeUserPrefix = "system:node:"

// Node authorizes node agents: their own Node, pods bound to it, and what those
// use, through as many objects as it takes (pod, claim, volume, secret); for all
// else what RBAC gives to system:node.
// https://kubernetes.io/docs/reference/access-authn-authz/node/
//
// It decides from the first request on: while the pods are not in view, those of
// a node are read from the store.
type Node struct {
	hub         *reconcile.Hub
	pods        *reconcile.View[*corev1.Pod]
	volumes     *reconcile.View[*corev1.PersistentVolume]
	attachments *reconcile.View[*storagev1.VolumeAttachment]
	slices      *reconcile.View[*resourcev1.ResourceSlice]
}

const (
	byUse    = "authz.use"
	bySecret = "authz.secret"
)

// NewNode indexes the hub's pods by what they use on which node, and volumes by
// the Secrets of their drivers.
func NewNode(h *reconcile.Hub) *Node {
	n := &Node{
		hub:  h,
		pods: reconcile.ViewOf[*corev1.Pod](h), volumes: reconcile.ViewOf[*corev1.PersistentVolume](h),
		attachments: reconcile.ViewOf[*storagev1.VolumeAttachment](h), slices: reconcile.ViewOf[*resourcev1.ResourceSlice](h),
	}
	n.pods.Index(byUse, podUses)
	n.volumes.Index(bySecret, volumeSecrets)
	return n
}

// IsNode tells whether a user is a node, though perhaps one without a name.
func IsNode(u user.Info) bool {
	return u != nil && strings.HasPrefix(u.GetName(), NodeUserPrefix) && slices.Contains(u.GetGroups(), user.NodesGroup)
}

// NodeName returns the node a user is, or "" for anybody else.
func NodeName(u user.Info) string {
	if !IsNode(u) {
		return ""
	}
	return strings.TrimPrefix(u.GetName(), NodeUserPrefix)
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (n *Node) Authorize(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if !IsNode(a.GetUser()) {
		return authorizer.DecisionNoOpinion, "", nil
	}
	node := NodeName(a.GetUser())
	if node == "" {
		return authorizer.DecisionNoOpinion, fmt.Sprintf("unknown node for user %q", a.GetUser().GetName()), nil
	}
	if a.IsResourceRequest() {
		if judge := n.narrowed(a); judge != nil {
			why, ok := judge(ctx, node, a)
			if ok {
				return authorizer.DecisionAllow, "", nil
			}
			return authorizer.DecisionNoOpinion, why, nil
		}
	}
	for i := range nodeRules {
		if ruleAllows(&nodeRules[i], a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// Rules implements Lister: what the pods of a node use changes too often to list.
func (*Node) Rules(u user.Info, _ string) ([]rbacv1.PolicyRule, bool, error) {
	if !IsNode(u) {
		return nil, false, nil
	}
	return nil, true, errors.New("node authorizer does not support user rule resolution")
}

// judge says whether a node may do something, and why not.
type judge func(ctx context.Context, node string, a authorizer.Attributes) (why string, ok bool)

// narrowed is what decides about a resource of which a node may see a part; nil
// for all others.
func (n *Node) narrowed(a authorizer.Attributes) judge {
	switch a.GetAPIGroup() {
	case "":
		switch a.GetResource() {
		case "secrets", "configmaps":
			return n.readUsed
		case "persistentvolumeclaims":
			if a.GetSubresource() == "status" {
				return n.claimStatus
			}
			return n.readUsed
		case "persistentvolumes":
			return n.volume
		case "serviceaccounts":
			return n.createToken
		case "nodes":
			return n.node
		case "pods":
			return n.pod
		}
	case "certificates.k8s.io":
		if a.GetResource() == "podcertificaterequests" {
			return n.podCertificate
		}
	case "resource.k8s.io":
		switch a.GetResource() {
		case "resourceclaims":
			return n.getUsed
		case "resourceslices":
			return n.slice
		}
	case "storage.k8s.io":
		switch a.GetResource() {
		case "volumeattachments":
			return n.getUsed
		case "csinodes":
			return n.csiNode
		}
	case "coordination.k8s.io":
		if a.GetResource() == "leases" {
			return n.lease
		}
	}
	return nil
}

func verb(a authorizer.Attributes, among ...string) bool { return slices.Contains(among, a.GetVerb()) }

func (n *Node) readUsed(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case !verb(a, "get", "list", "watch"):
		return "can only read resources of this type", false
	case a.GetSubresource() != "":
		return "cannot read subresource", false
	case a.GetNamespace() == "":
		return "can only read namespaced object of this type", false
	}
	return n.related(ctx, node, a)
}

func (n *Node) getUsed(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case a.GetVerb() != "get":
		return "can only get individual resources of this type", false
	case a.GetSubresource() != "":
		return "cannot get subresource", false
	}
	return n.related(ctx, node, a)
}

func (n *Node) createToken(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case a.GetVerb() != "create" || a.GetName() == "":
		return "can only create tokens for individual service accounts", false
	case a.GetSubresource() != "token":
		return "can only create token subresource of serviceaccount", false
	}
	return n.related(ctx, node, a)
}

// related tells whether an object has to do with a node.
func (n *Node) related(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	if a.GetName() == "" {
		return "No Object name found", false
	}
	ok, err := n.relates(ctx, node, a.GetResource(), a.GetNamespace(), a.GetName())
	if err != nil {
		return fmt.Sprintf("cannot find what node '%s' has to do with this object: %v", node, err), false
	}
	if !ok {
		return fmt.Sprintf("no relationship found between node '%s' and this object", node), false
	}
	return "", true
}

func (n *Node) relates(ctx context.Context, node, resource, namespace, name string) (bool, error) {
	switch resource {
	case "pods":
		p, err := n.findPod(ctx, namespace, name)
		return p != nil && p.Spec.NodeName == node, err
	case "volumeattachments":
		err := n.attachments.Need(ctx)
		v, found := n.attachments.Get("", name)
		return found && v.Spec.NodeName == node, err
	case "podcertificaterequests":
		r, err := client.Get[*certificatesv1.PodCertificateRequest](ctx, n.hub.Client(), namespace, name)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil && string(r.Spec.NodeName) == node, err
	case "resourceslices":
		err := n.slices.Need(ctx)
		s, found := n.slices.Get("", name)
		return found && s.Spec.NodeName != nil && *s.Spec.NodeName == node, err
	}
	ok, err := n.uses(ctx, node, resource, namespace, name)
	if ok || err != nil || resource != "secrets" {
		return ok, err
	}
	if err := n.volumes.Need(ctx); err != nil {
		return false, err
	}
	for _, v := range n.volumes.By(bySecret, namespace+"/"+name) {
		if ok, err := n.mounts(ctx, node, v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// findPod finds a pod; nil when there is none.
func (n *Node) findPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	if n.pods.Revision() > 0 {
		p, _ := n.pods.Get(namespace, name)
		return p, nil
	}
	p, err := client.Get[*corev1.Pod](ctx, n.hub.Client(), namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return p, err
}

// uses tells whether a pod on a node uses an object.
func (n *Node) uses(ctx context.Context, node, resource, namespace, name string) (bool, error) {
	key := useKey(node, resource, namespace, name)
	if n.pods.Revision() > 0 {
		return len(n.pods.By(byUse, key)) > 0, nil
	}
	l, err := n.hub.Client().List(ctx, n.pods.Definition(), namespace, client.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(l.Items, func(o object.Object) bool {
		p, ok := o.(*corev1.Pod)
		return ok && slices.Contains(podUses(p), key)
	}), nil
}

// mounts tells whether a pod on a node uses the claim that a volume is bound to.
func (n *Node) mounts(ctx context.Context, node string, v *corev1.PersistentVolume) (bool, error) {
	c := v.Spec.ClaimRef
	if c == nil {
		return false, nil
	}
	return n.uses(ctx, node, "persistentvolumeclaims", c.Namespace, c.Name)
}

func (n *Node) node(_ context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case a.GetSubresource() == "" && verb(a, "create", "update", "patch"), a.GetSubresource() == "status" && verb(a, "update", "patch"):
		return "", true // NodeRestriction knows which
	case a.GetSubresource() != "" || !verb(a, "get", "list", "watch"):
		return "", false
	case a.GetName() == node:
		return "", true // also before it is there
	case a.GetName() == "":
		return fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node), false
	}
	return fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, a.GetName()), false
}

func (n *Node) pod(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch a.GetSubresource() {
	case "":
		switch {
		case verb(a, "create", "delete"):
			return "", true // NodeRestriction knows which
		case a.GetVerb() == "get":
			return n.related(ctx, node, a)
		case !verb(a, "list", "watch"):
			return "", false
		case selects(a, "spec.nodeName", node):
			return "", true
		case a.GetName() != "":
			return n.related(ctx, node, a)
		}
		return "can only list/watch pods with spec.nodeName field selector", false
	case "status":
		return "", verb(a, "update", "patch")
	case "eviction":
		return "", a.GetVerb() == "create"
	}
	return "", false
}

// selects tells whether a request asks only for objects with a value in a field.
func selects(a authorizer.Attributes, field, value string) bool {
	reqs, _ := a.GetFieldSelector()
	return slices.ContainsFunc(reqs, func(r fields.Requirement) bool {
		return r.Field == field && r.Operator == selection.Equals && r.Value == value
	})
}

func (n *Node) slice(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case a.GetSubresource() != "":
		return "cannot authorize ResourceSlice subresources", false
	case a.GetVerb() == "create":
		return "", true // NodeRestriction knows which
	case verb(a, "get", "update", "patch", "delete"):
		return n.related(ctx, node, a)
	case verb(a, "watch", "list", "deletecollection"):
		return "can only list/watch/deletecollection resourceslices with nodeName field selector", selects(a, "spec.nodeName", node) || selects(a, "nodeName", node)
	}
	return "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection", false
}

func (n *Node) podCertificate(ctx context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case a.GetSubresource() != "":
		return "nodes may not access the status subresource of PodCertificateRequests", false
	case a.GetVerb() == "create":
		return "", true // NodeRestriction knows which
	case a.GetVerb() == "get":
		return n.related(ctx, node, a)
	case !verb(a, "list", "watch"):
		return fmt.Sprintf("nodes may not %s podcertificaterequests", a.GetVerb()), false
	}
	return "can only list/watch podcertificaterequests with nodeName field selector", selects(a, "spec.nodeName", node)
}

func (n *Node) lease(_ context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case !verb(a, "get", "create", "update", "patch", "delete"):
		return "can only get, create, update, patch, or delete a node lease", false
	case a.GetNamespace() != corev1.NamespaceNodeLease:
		return fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease), false
	case a.GetVerb() != "create" && a.GetName() != node:
		return "can only access node lease with the same name as the requesting node", false
	}
	return "", true
}

func (n *Node) csiNode(_ context.Context, node string, a authorizer.Attributes) (string, bool) {
	switch {
	case !verb(a, "get", "create", "update", "patch", "delete"):
		return "can only get, create, update, patch, or delete a CSINode", false
	case a.GetSubresource() != "":
		return "cannot authorize CSINode subresources", false
	case a.GetVerb() != "create" && a.GetName() != node:
		return "can only access CSINode with the same name as the requesting node", false
	}
	return "", true
}

func useKey(node, resource, namespace, name string) string {
	return node + "\x00" + resource + "\x00" + namespace + "\x00" + name
}
