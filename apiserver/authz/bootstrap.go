package authz

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

// The roles and bindings every cluster starts with, as listed in
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings

var (
	readVerbs  = []string{"get", "list", "watch"}
	writeVerbs = []string{"create", "delete", "deletecollection", "patch", "update"}
	allVerbs   = append(append([]string{}, readVerbs...), writeVerbs...)
)

func rule(verbs []string, group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: resources}
}

func verbs(v ...string) []string { return v }

func urls(paths ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: paths}
}

// nodeRules is what a node agent may do; the Node authorizer narrows reads of
// configuration to what its pods use, NodeRestriction narrows writes.
var nodeRules = []rbacv1.PolicyRule{
	rule(verbs("create"), "authentication.k8s.io", "tokenreviews"),
	rule(verbs("create"), "authorization.k8s.io", "subjectaccessreviews", "localsubjectaccessreviews"),
	rule(readVerbs, "", "services"),
	rule(verbs("create", "get", "list", "watch"), "", "nodes"),
	rule(verbs("update", "patch"), "", "nodes/status", "nodes"),
	rule(verbs("create", "update", "patch"), "", "events"),
	rule(verbs("create", "update", "patch"), "events.k8s.io", "events"),
	rule(readVerbs, "", "pods"),
	rule(verbs("create", "delete"), "", "pods"),
	rule(verbs("update", "patch"), "", "pods/status"),
	rule(verbs("create"), "", "pods/eviction"),
	rule(verbs("get"), "", "persistentvolumes"),
	rule(verbs("get", "update", "patch"), "", "persistentvolumeclaims/status"),
	rule(verbs("get"), "", "endpoints"),
	rule(verbs("create", "get", "list", "watch"), "certificates.k8s.io", "certificatesigningrequests"),
	rule(verbs("get", "create", "update", "patch", "delete"), "coordination.k8s.io", "leases"),
	rule(verbs("get"), "storage.k8s.io", "volumeattachments"),
	rule(readVerbs, "storage.k8s.io", "csidrivers"),
	rule(verbs("get", "create", "update", "patch", "delete"), "storage.k8s.io", "csinodes"),
	rule(readVerbs, "node.k8s.io", "runtimeclasses"),
	rule(readVerbs, "discovery.k8s.io", "endpointslices"),
}

// BootstrapClusterRoles returns the default ClusterRoles.
func BootstrapClusterRoles() []*rbacv1.ClusterRole {
	aggregate := func(to string) map[string]string {
		return map[string]string{"rbac.authorization.k8s.io/aggregate-to-" + to: "true"}
	}
	aggregated := func(name string, labels map[string]string, from string) *rbacv1.ClusterRole {
		r := clusterRole(name)
		for k, v := range labels {
			r.Labels[k] = v
		}
		r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: aggregate(from)}}}
		return r
	}
	labelled := func(r *rbacv1.ClusterRole, labels map[string]string) *rbacv1.ClusterRole {
		for k, v := range labels {
			r.Labels[k] = v
		}
		return r
	}
	return []*rbacv1.ClusterRole{
		clusterRole("cluster-admin", rule(verbs("*"), "*", "*"), rbacv1.PolicyRule{Verbs: verbs("*"), NonResourceURLs: verbs("*")}),
		clusterRole("system:discovery", urls("/livez", "/readyz", "/healthz", "/version", "/version/", "/openapi", "/openapi/*", "/api", "/api/*", "/apis", "/apis/*")),
		clusterRole("system:public-info-viewer", urls("/livez", "/readyz", "/healthz", "/version", "/version/")),
		clusterRole("system:monitoring", urls("/metrics", "/metrics/slis", "/livez", "/readyz", "/healthz", "/livez/*", "/readyz/*", "/healthz/*")),
		clusterRole("system:basic-user",
			rule(verbs("create"), "authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectrulesreviews"),
			rule(verbs("create"), "authentication.k8s.io", "selfsubjectreviews")),
		clusterRole("system:service-account-issuer-discovery", urls("/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/")),
		clusterRole("system:auth-delegator",
			rule(verbs("create"), "authentication.k8s.io", "tokenreviews"),
			rule(verbs("create"), "authorization.k8s.io", "subjectaccessreviews")),
		clusterRole("system:node", nodeRules...),
		clusterRole("system:node-bootstrapper", rule(verbs("create", "get", "list", "watch"), "certificates.k8s.io", "certificatesigningrequests")),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:nodeclient", rule(verbs("create"), "certificates.k8s.io", "certificatesigningrequests/nodeclient")),
		clusterRole("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", rule(verbs("create"), "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")),
		clusterRole("system:node-proxier",
			rule(readVerbs, "", "services", "endpoints", "nodes"),
			rule(readVerbs, "discovery.k8s.io", "endpointslices"),
			rule(verbs("create", "patch", "update"), "", "events"),
			rule(verbs("create", "patch", "update"), "events.k8s.io", "events")),
		clusterRole("system:kubelet-api-admin",
			rule(readVerbs, "", "nodes"), rule(verbs("proxy"), "", "nodes"),
			rule(verbs("*"), "", "nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats")),
		aggregated("admin", nil, "admin"),
		aggregated("edit", aggregate("admin"), "edit"),
		aggregated("view", aggregate("edit"), "view"),
		labelled(clusterRole("system:aggregated-metrics-reader", rule(readVerbs, "metrics.k8s.io", "pods", "nodes")), map[string]string{
			"rbac.authorization.k8s.io/aggregate-to-admin": "true", "rbac.authorization.k8s.io/aggregate-to-edit": "true", "rbac.authorization.k8s.io/aggregate-to-view": "true",
		}),
		labelled(clusterRole("system:aggregate-to-admin",
			rule(verbs("create"), "authorization.k8s.io", "localsubjectaccessreviews"),
			rule(allVerbs, "rbac.authorization.k8s.io", "roles", "rolebindings")), aggregate("admin")),
		labelled(clusterRole("system:aggregate-to-edit",
			rule(readVerbs, "", "pods/attach", "pods/proxy", "pods/exec", "pods/portforward", "secrets", "services/proxy"),
			rule(verbs("impersonate"), "", "serviceaccounts"),
			rule(writeVerbs, "", "pods", "pods/attach", "pods/proxy", "pods/exec", "pods/portforward"),
			rule(verbs("create"), "", "pods/eviction"),
			rule(writeVerbs, "", "replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/proxy",
				"persistentvolumeclaims", "configmaps", "secrets", "events"),
			rule(verbs("create"), "", "serviceaccounts/token"),
			rule(writeVerbs, "apps", "statefulsets", "statefulsets/scale", "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale"),
			rule(writeVerbs, "autoscaling", "horizontalpodautoscalers"),
			rule(writeVerbs, "batch", "jobs", "cronjobs"),
			rule(writeVerbs, "policy", "poddisruptionbudgets"),
			rule(writeVerbs, "networking.k8s.io", "ingresses", "networkpolicies"),
			rule(allVerbs, "coordination.k8s.io", "leases")), aggregate("edit")),
		labelled(clusterRole("system:aggregate-to-view",
			rule(readVerbs, "", "pods", "pods/status", "pods/log", "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status",
				"serviceaccounts", "services", "services/status", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "configmaps",
				"limitranges", "resourcequotas", "resourcequotas/status", "bindings", "events", "namespaces", "namespaces/status"),
			rule(readVerbs, "discovery.k8s.io", "endpointslices"),
			rule(readVerbs, "apps", "controllerrevisions", "statefulsets", "statefulsets/status", "statefulsets/scale", "daemonsets", "daemonsets/status",
				"deployments", "deployments/status", "deployments/scale", "replicasets", "replicasets/status", "replicasets/scale"),
			rule(readVerbs, "autoscaling", "horizontalpodautoscalers", "horizontalpodautoscalers/status"),
			rule(readVerbs, "batch", "jobs", "cronjobs", "cronjobs/status", "jobs/status"),
			rule(readVerbs, "policy", "poddisruptionbudgets", "poddisruptionbudgets/status"),
			rule(readVerbs, "networking.k8s.io", "ingresses", "ingresses/status", "networkpolicies"),
		), aggregate("view")),
	}
}

// BootstrapClusterRoleBindings returns the default ClusterRoleBindings.
func BootstrapClusterRoleBindings() []*rbacv1.ClusterRoleBinding {
	return []*rbacv1.ClusterRoleBinding{
		clusterBinding("cluster-admin", "cluster-admin", group(user.SystemPrivilegedGroup)),
		clusterBinding("system:discovery", "system:discovery", group(user.AllAuthenticated)),
		clusterBinding("system:basic-user", "system:basic-user", group(user.AllAuthenticated)),
		clusterBinding("system:public-info-viewer", "system:public-info-viewer", group(user.AllAuthenticated), group(user.AllUnauthenticated)),
		clusterBinding("system:monitoring", "system:monitoring", group(user.MonitoringGroup)),
		clusterBinding("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", group("system:serviceaccounts")),
		clusterBinding("system:node-proxier", "system:node-proxier", rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "system:kube-proxy"}),
		// Kept without subjects, as upstream does: the Node authorizer speaks for nodes.
		clusterBinding("system:node", "system:node"),
		clusterBinding("sagong:node-bootstrapper", "system:node-bootstrapper", group("system:bootstrappers:sagong:default-node-token")),
		clusterBinding("sagong:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", group("system:bootstrappers:sagong:default-node-token")),
		clusterBinding("sagong:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", group(user.NodesGroup)),
	}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: meta(name), Rules: rules}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func clusterBinding(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta(name), Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
}
