package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/reconcile"
)

// NodeUserPrefix precedes a node's name in its user name.
const NodeUserPrefix = "system:node:"

// Node authorizes node agents: what RBAC gives to system:node, but Secrets,
// ConfigMaps, claims and service-account tokens only where a pod on that very
// node uses them. https://kubernetes.io/docs/reference/access-authn-authz/node/
type Node struct {
	pods    *reconcile.View[*corev1.Pod]
	nodes   *reconcile.View[*corev1.Node]
	volumes *reconcile.View[*corev1.PersistentVolume]
}

const byUse = "authz.use"

// NewNode indexes the hub's pods by what they use on which node.
func NewNode(h *reconcile.Hub) *Node {
	n := &Node{pods: reconcile.ViewOf[*corev1.Pod](h), nodes: reconcile.ViewOf[*corev1.Node](h), volumes: reconcile.ViewOf[*corev1.PersistentVolume](h)}
	n.pods.Index(byUse, podUses)
	return n
}

// NodeName returns the node a user is, or "" for anybody else.
func NodeName(u user.Info) string {
	if u == nil || !slices.Contains(u.GetGroups(), user.NodesGroup) {
		return ""
	}
	name, ok := strings.CutPrefix(u.GetName(), NodeUserPrefix)
	if !ok {
		return ""
	}
	return name
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (n *Node) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	node := NodeName(a.GetUser())
	if node == "" {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if a.IsResourceRequest() && a.GetAPIGroup() == "" {
		switch a.GetResource() {
		case "persistentvolumeclaims":
			if a.GetSubresource() == "status" {
				return n.claimStatus(node, a)
			}
			return n.readUsed(node, a)
		case "persistentvolumes":
			return n.volume(node, a)
		case "secrets", "configmaps":
			return n.readUsed(node, a)
		case "serviceaccounts":
			if a.GetSubresource() == "token" && a.GetVerb() == "create" {
				return n.used(node, "serviceaccounts", a)
			}
		}
	}
	for i := range nodeRules {
		if ruleAllows(&nodeRules[i], a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func (n *Node) readUsed(node string, a authorizer.Attributes) (authorizer.Decision, string, error) {
	switch a.GetVerb() {
	case "get", "list", "watch":
	default:
		return authorizer.DecisionNoOpinion, fmt.Sprintf("can only get, list and watch %s", a.GetResource()), nil
	}
	if a.GetSubresource() != "" {
		return authorizer.DecisionNoOpinion, "cannot read subresource", nil
	}
	return n.used(node, a.GetResource(), a)
}

func (n *Node) used(node, resource string, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetName() == "" {
		return authorizer.DecisionNoOpinion, "No Object name found", nil
	}
	if len(n.pods.By(byUse, useKey(node, resource, a.GetNamespace(), a.GetName()))) > 0 {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, fmt.Sprintf("no relationship found between node '%s' and this object", node), nil
}

func useKey(node, resource, namespace, name string) string {
	return node + "\x00" + resource + "\x00" + namespace + "\x00" + name
}

// podUses lists the objects a pod's node must read for it.
func podUses(p *corev1.Pod) []string {
	if p.Spec.NodeName == "" {
		return nil
	}
	seen := map[string]bool{}
	References(p, func(resource, name string) {
		seen[useKey(p.Spec.NodeName, resource, p.Namespace, name)] = true
	})
	keys := make([]string, 0, len(seen))
	for k := range seen {
		keys = append(keys, k)
	}
	return keys
}

// References calls f with each object of its namespace that a pod's node must
// read for it; more than once for some.
func References(p *corev1.Pod, f func(resource, name string)) {
	use := func(resource, name string) {
		if name != "" {
			f(resource, name)
		}
	}
	use("serviceaccounts", p.Spec.ServiceAccountName)
	for _, s := range p.Spec.ImagePullSecrets {
		use("secrets", s.Name)
	}
	environment := func(env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for _, e := range env {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				use("secrets", r.Name)
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				use("configmaps", r.Name)
			}
		}
		for _, f := range from {
			if f.SecretRef != nil {
				use("secrets", f.SecretRef.Name)
			}
			if f.ConfigMapRef != nil {
				use("configmaps", f.ConfigMapRef.Name)
			}
		}
	}
	for _, c := range p.Spec.InitContainers {
		environment(c.Env, c.EnvFrom)
	}
	for _, c := range p.Spec.Containers {
		environment(c.Env, c.EnvFrom)
	}
	for _, c := range p.Spec.EphemeralContainers {
		environment(c.Env, c.EnvFrom)
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.Secret != nil:
			use("secrets", v.Secret.SecretName)
		case v.ConfigMap != nil:
			use("configmaps", v.ConfigMap.Name)
		case v.PersistentVolumeClaim != nil:
			use("persistentvolumeclaims", v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			use("persistentvolumeclaims", p.Name+"-"+v.Name)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					use("secrets", s.Secret.Name)
				}
				if s.ConfigMap != nil {
					use("configmaps", s.ConfigMap.Name)
				}
			}
		case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
			use("secrets", v.CSI.NodePublishSecretRef.Name)
		}
	}
}
