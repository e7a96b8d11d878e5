package authz

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

// The roles and bindings every cluster starts with, as listed in
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings

const (
	read  = "get list watch"
	write = "create delete deletecollection patch update"
	all   = read + " " + write
	// core is the group without a name.
	core = "core"
)

// rule is a PolicyRule of words: verbs, groups, resources and, for some, names.
func rule(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	r := rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: strings.Fields(groups), Resources: strings.Fields(resources), ResourceNames: names}
	for i, g := range r.APIGroups {
		if g == core {
			r.APIGroups[i] = ""
		}
	}
	return r
}

func urls(paths string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: strings.Fields(paths)}
}

// events lets somebody say what happened.
func events() rbacv1.PolicyRule { return rule("create patch update", "core events.k8s.io", "events") }

// nodeRules is what a node agent may do; the Node authorizer narrows it to what
// its pods use, NodeRestriction narrows writes.
var nodeRules = []rbacv1.PolicyRule{
	rule("create", "authentication.k8s.io", "tokenreviews"),
	rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
	rule(read, core, "services"),
	rule("create get list watch", core, "nodes"),
	rule("update patch", core, "nodes/status"),
	rule("update patch", core, "nodes"),
	rule("create update patch", core, "events"),
	rule("create update patch", "events.k8s.io", "events"),
	rule(read, core, "pods"),
	rule("create delete", core, "pods"),
	rule("update patch", core, "pods/status"),
	rule("create", core, "pods/eviction"),
	rule(read, core, "secrets configmaps"),
	rule("get", core, "persistentvolumeclaims persistentvolumes"),
	rule("get", core, "endpoints"),
	rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
	rule("get create update patch delete", "coordination.k8s.io", "leases"),
	rule("get", "storage.k8s.io", "volumeattachments"),
	rule("create", core, "serviceaccounts/token"),
	rule("get update patch", core, "persistentvolumeclaims/status"),
	rule(read, "storage.k8s.io", "csidrivers"),
	rule("get create update patch delete", "storage.k8s.io", "csinodes"),
	rule(read, "node.k8s.io", "runtimeclasses"),
	rule("get", "resource.k8s.io", "resourceclaims"),
	rule("create delete deletecollection get list patch update watch", "resource.k8s.io", "resourceslices"),
	rule(read, "certificates.k8s.io", "clustertrustbundles"),
	rule("create get list watch", "certificates.k8s.io", "podcertificaterequests"),
	// The network of a node is its agent's business here, and not a proxy's with a
	// user of its own.
	rule(read, "discovery.k8s.io", "endpointslices"),
}

// BootstrapClusterRoles returns the default ClusterRoles.
func BootstrapClusterRoles() []*rbacv1.ClusterRole {
	to := func(name string) map[string]string {
		return map[string]string{"rbac.authorization.k8s.io/aggregate-to-" + name: "true"}
	}
	labelled := func(r *rbacv1.ClusterRole, labels map[string]string) *rbacv1.ClusterRole {
		for k, v := range labels {
			r.Labels[k] = v
		}
		return r
	}
	aggregated := func(name string, labels map[string]string) *rbacv1.ClusterRole {
		r := labelled(clusterRole(name), labels)
		r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: to(name)}}}
		return r
	}
	const csrs = "system:certificates.k8s.io:certificatesigningrequests:"
	roles := []*rbacv1.ClusterRole{
		clusterRole("cluster-admin", rule("*", "*", "*"), rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}),
		clusterRole("system:discovery", urls("/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*")),
		clusterRole("system:public-info-viewer", urls("/livez /readyz /healthz /version /version/")),
		clusterRole("system:monitoring", urls("/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*"), urls("/flagz"), urls("/statusz")),
		clusterRole("system:basic-user",
			rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
			rule("create", "authentication.k8s.io", "selfsubjectreviews")),
		clusterRole("system:service-account-issuer-discovery", urls("/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/")),
		clusterRole("system:auth-delegator",
			rule("create", "authentication.k8s.io", "tokenreviews"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews")),
		clusterRole("system:node", nodeRules...),
		clusterRole("system:node-bootstrapper", rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")),
		clusterRole("system:node-problem-detector", rule("get", core, "nodes"), rule("patch", core, "nodes/status"), events()),
		clusterRole("system:node-proxier",
			rule("list watch", core, "services endpoints"), rule(read, core, "nodes"),
			rule("list watch", "networking.k8s.io", "servicecidrs"), rule("list watch", "discovery.k8s.io", "endpointslices"), events()),
		clusterRole("system:kubelet-api-admin",
			rule(read, core, "nodes"), rule("proxy", core, "nodes"),
			rule("*", core, "nodes/log nodes/metrics nodes/proxy nodes/stats"), rule("*", core, "nodes/configz nodes/healthz nodes/pods")),
		clusterRole(csrs+"nodeclient", rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")),
		clusterRole(csrs+"selfnodeclient", rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")),
		clusterRole("system:cluster-trust-bundle-discovery", rule(read, "certificates.k8s.io", "clustertrustbundles")),
		clusterRole("system:heapster", rule(read, core, "events pods nodes namespaces"), rule(read, "extensions", "deployments")),
		clusterRole("system:kube-aggregator", rule(read, core, "services endpoints")),
		clusterRole("system:kube-dns", rule("list watch", core, "endpoints services")),
		clusterRole("system:persistent-volume-provisioner",
			rule("create delete get list watch", core, "persistentvolumes"), rule("get list update watch", core, "persistentvolumeclaims"),
			rule(read, "storage.k8s.io", "storageclasses"), rule("watch", core, "events"), events()),
		clusterRole("system:volume-scheduler",
			rule("get list patch update watch", core, "persistentvolumes"), rule(read, "storage.k8s.io", "storageclasses"),
			rule("get list patch update watch", core, "persistentvolumeclaims")),
		clusterRole("system:kube-controller-manager",
			events(), rule("create", "coordination.k8s.io", "leases"), rule("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
			rule("create", core, "secrets serviceaccounts"), rule("delete", core, "secrets"), rule("get", core, "namespaces secrets serviceaccounts configmaps"),
			rule("update", core, "secrets serviceaccounts"), rule("create", "authentication.k8s.io", "tokenreviews"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews"), rule("list watch", "*", "*"), rule("create", core, "serviceaccounts/token")),
		clusterRole("system:kube-scheduler",
			events(), rule("create", "coordination.k8s.io", "leases"), rule("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
			rule(read, core, "nodes"), rule("delete get list watch", core, "pods"), rule("create", core, "bindings pods/binding"),
			rule("patch update", core, "pods/status"), rule(read, core, "replicationcontrollers services"), rule(read, "apps extensions", "replicasets"),
			rule(read, "apps", "statefulsets"), rule(read, "policy", "poddisruptionbudgets"), rule(read, core, "persistentvolumeclaims persistentvolumes"),
			rule("create", "authentication.k8s.io", "tokenreviews"), rule("create", "authorization.k8s.io", "subjectaccessreviews"),
			rule(read, "storage.k8s.io", "csinodes"), rule(read, core, "namespaces"), rule(read, "storage.k8s.io", "csidrivers"),
			rule(read, "storage.k8s.io", "csistoragecapacities"), rule(read, "storage.k8s.io", "volumeattachments"),
			rule(read, "resource.k8s.io", "deviceclasses"), rule("get list patch update watch", "resource.k8s.io", "resourceclaims"),
			rule("get list patch update watch", "resource.k8s.io", "resourceclaims/status"), rule("get list patch update watch", core, "pods/finalizers"),
			rule(read, "resource.k8s.io", "resourceslices"), rule(read, "resource.k8s.io", "devicetaintrules"), rule("patch update", "resource.k8s.io", "resourceclaims/binding"),
			rule("create delete", "resource.k8s.io", "resourceclaims")),
		aggregated("admin", nil), aggregated("edit", to("admin")), aggregated("view", to("edit")),
		labelled(clusterRole("system:aggregated-metrics-reader", rule(read, "metrics.k8s.io", "pods nodes")), map[string]string{
			"rbac.authorization.k8s.io/aggregate-to-admin": "true", "rbac.authorization.k8s.io/aggregate-to-edit": "true", "rbac.authorization.k8s.io/aggregate-to-view": "true",
		}),
		labelled(clusterRole("system:aggregate-to-admin", adminRules()...), to("admin")),
		labelled(clusterRole("system:aggregate-to-edit", editRules()...), to("edit")),
		labelled(clusterRole("system:aggregate-to-view", viewRules()...), to("view")),
	}
	for _, signer := range []string{"kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown"} {
		roles = append(roles, clusterRole("system:certificates.k8s.io:"+signer+"-approver", rule("approve", "certificates.k8s.io", "signers", "kubernetes.io/"+signer)))
	}
	for _, c := range controllerRoles() {
		roles = append(roles, clusterRole(controllerPrefix+c.name, c.rules...))
	}
	return roles
}

// What the roles that users are given hold, each beyond the one below it.
func adminRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
		rule(all, "rbac.authorization.k8s.io", "roles rolebindings"),
	}
}

func editRules() []rbacv1.PolicyRule {
	const workloads = "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale"
	return []rbacv1.PolicyRule{
		rule(read, core, "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
		rule("impersonate", core, "serviceaccounts"),
		rule(write, core, "pods pods/attach pods/proxy pods/exec pods/portforward"),
		rule("create", core, "pods/eviction"),
		rule(write, core, "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy persistentvolumeclaims configmaps secrets events"),
		rule("create", core, "serviceaccounts/token"),
		rule(write, "apps", "statefulsets statefulsets/scale "+workloads),
		rule(write, "autoscaling", "horizontalpodautoscalers"),
		rule(write, "batch", "jobs cronjobs"),
		rule(write, "extensions", workloads+" ingresses networkpolicies replicationcontrollers/scale"),
		rule(write, "policy", "poddisruptionbudgets"),
		rule(write, "networking.k8s.io", "ingresses networkpolicies"),
		rule(all, "coordination.k8s.io", "leases"),
		rule(write, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
	}
}

func viewRules() []rbacv1.PolicyRule {
	const workloads = "daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status"
	return []rbacv1.PolicyRule{
		rule(read, core, "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps"),
		rule(read, core, "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status replicationcontrollers/status pods/log"),
		rule(read, core, "namespaces"),
		rule(read, "discovery.k8s.io", "endpointslices"),
		rule(read, "apps", "controllerrevisions statefulsets statefulsets/status statefulsets/scale "+workloads),
		rule(read, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
		rule(read, "batch", "jobs cronjobs cronjobs/status jobs/status"),
		rule(read, "extensions", workloads+" ingresses ingresses/status networkpolicies replicationcontrollers/scale"),
		rule(read, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
		rule(read, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
		rule(read, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
	}
}

// BootstrapClusterRoleBindings returns the default ClusterRoleBindings.
func BootstrapClusterRoleBindings() []*rbacv1.ClusterRoleBinding {
	const joining = "system:bootstrappers:sagong:default-node-token"
	person := func(name string) rbacv1.Subject {
		return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
	}
	bindings := []*rbacv1.ClusterRoleBinding{
		clusterBinding("cluster-admin", "cluster-admin", group(user.SystemPrivilegedGroup)),
		clusterBinding("system:discovery", "system:discovery", group(user.AllAuthenticated)),
		clusterBinding("system:basic-user", "system:basic-user", group(user.AllAuthenticated)),
		clusterBinding("system:public-info-viewer", "system:public-info-viewer", group(user.AllAuthenticated), group(user.AllUnauthenticated)),
		clusterBinding("system:monitoring", "system:monitoring", group(user.MonitoringGroup)),
		clusterBinding("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", group("system:serviceaccounts")),
		clusterBinding("system:cluster-trust-bundle-discovery", "system:cluster-trust-bundle-discovery", group("system:serviceaccounts")),
		clusterBinding("system:node-proxier", "system:node-proxier", person("system:kube-proxy")),
		clusterBinding("system:kube-controller-manager", "system:kube-controller-manager", person("system:kube-controller-manager")),
		clusterBinding("system:kube-dns", "system:kube-dns", account("kube-dns")),
		clusterBinding("system:kube-scheduler", "system:kube-scheduler", person("system:kube-scheduler")),
		clusterBinding("system:volume-scheduler", "system:volume-scheduler", person("system:kube-scheduler")),
		// Kept without subjects, as upstream does: the Node authorizer speaks for nodes.
		clusterBinding("system:node", "system:node"),
		// An agent makes its node's network itself: it must know the other nodes.
		clusterBinding("sagong:node-network", "system:node-proxier", group(user.NodesGroup)),
		clusterBinding("sagong:node-bootstrapper", "system:node-bootstrapper", group(joining)),
		clusterBinding("sagong:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", group(joining)),
		clusterBinding("sagong:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", group(user.NodesGroup)),
	}
	for _, c := range controllerRoles() {
		bindings = append(bindings, clusterBinding(controllerPrefix+c.name, controllerPrefix+c.name, account(c.name)))
	}
	return bindings
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

// account is a service account of the system's.
func account(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}
}

func clusterBinding(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta(name), Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
}
