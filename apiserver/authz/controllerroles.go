package authz

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// controllerPrefix precedes the names of controllers in those of their roles.
const controllerPrefix = "system:controller:"

// controllerRole is what a controller may do that runs under its own service
// account. The controllers in this process do not need it; those of cloud
// providers and of users build on these roles by name.
type controllerRole struct {
	name  string
	rules []rbacv1.PolicyRule
}

func controllerRoles() []controllerRole {
	role := func(name string, rules ...rbacv1.PolicyRule) controllerRole { return controllerRole{name, rules} }
	const (
		owned   = "create delete list patch watch"
		renewed = "create delete get list patch update watch"
	)
	return []controllerRole{
		role("attachdetach-controller", rule("list watch", core, "persistentvolumes persistentvolumeclaims"), rule(read, core, "nodes"), rule("patch update", core, "nodes/status"),
			rule("list watch", core, "pods"), events(), rule("get create delete list watch", "storage.k8s.io", "volumeattachments"),
			rule(read, "storage.k8s.io", "csidrivers"), rule(read, "storage.k8s.io", "csinodes")),
		role("certificate-controller", rule("get list watch delete", "certificates.k8s.io", "certificatesigningrequests"),
			rule("update", "certificates.k8s.io", "certificatesigningrequests/status certificatesigningrequests/approval"),
			rule("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
			rule("sign", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/legacy-unknown", "kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client"),
			rule("create", "authorization.k8s.io", "subjectaccessreviews"), events()),
		role("clusterrole-aggregation-controller", rule("escalate get list watch update patch", "rbac.authorization.k8s.io", "clusterroles")),
		role("cronjob-controller", rule("get list watch update", "batch", "cronjobs"), rule(renewed, "batch", "jobs"), rule("update", "batch", "cronjobs/status"),
			rule("update", "batch", "cronjobs/finalizers"), rule("list watch delete", core, "pods"), events()),
		role("daemon-set-controller", rule(read, "extensions apps", "daemonsets"), rule("update", "extensions apps", "daemonsets/status"), rule("update", "extensions apps", "daemonsets/finalizers"),
			rule("list watch", core, "nodes"), rule(owned, core, "pods"), rule("create", core, "pods/binding"), rule(renewed, "apps", "controllerrevisions"), events()),
		role("deployment-controller", rule("get list watch update", "extensions apps", "deployments"), rule("update", "extensions apps", "deployments/status"),
			rule("update", "extensions apps", "deployments/finalizers"), rule(renewed, "apps extensions", "replicasets"), rule("get list update watch", core, "pods"), events()),
		role("device-taint-eviction-controller", rule("get list watch delete", core, "pods"), rule("patch update", core, "pods/status"), rule(read, "resource.k8s.io", "resourceclaims"),
			rule(read, "resource.k8s.io", "resourceslices"), rule(read, "resource.k8s.io", "deviceclasses"), rule(read, "resource.k8s.io", "devicetaintrules"),
			rule("patch update", "resource.k8s.io", "devicetaintrules/status"), events()),
		role("disruption-controller", rule(read, "extensions apps", "deployments"), rule(read, "apps extensions", "replicasets"), rule(read, core, "replicationcontrollers"),
			rule(read, "policy", "poddisruptionbudgets"), rule(read, "apps", "statefulsets"), rule("update", "policy", "poddisruptionbudgets/status"),
			rule("patch update", core, "pods/status"), rule("get", "*", "*/scale"), events()),
		role("endpoint-controller", rule(read, core, "services pods"), rule("get list create update delete watch", core, "endpoints"), rule("create", core, "endpoints/restricted"), events()),
		role("endpointslice-controller", rule(read, core, "services pods nodes"), rule("update", core, "services/finalizers"),
			rule("get list create update delete watch", "discovery.k8s.io", "endpointslices"), events()),
		role("endpointslicemirroring-controller", rule(read, core, "services endpoints"), rule("update", core, "services/finalizers"), rule("update", core, "endpoints/finalizers"),
			rule("get list create update delete watch", "discovery.k8s.io", "endpointslices"), events()),
		role("ephemeral-volume-controller", rule(read, core, "pods"), rule("update", core, "pods/finalizers"), rule("get list watch create", core, "persistentvolumeclaims"), events()),
		role("expand-controller", rule("get list watch update patch", core, "persistentvolumes"), rule("update patch", core, "persistentvolumeclaims/status"), rule(read, core, "persistentvolumeclaims"), events()),
		role("generic-garbage-collector", rule("get list watch patch update delete", "*", "*"), events()),
		role("horizontal-pod-autoscaler", rule(read, "autoscaling", "horizontalpodautoscalers"), rule("update", "autoscaling", "horizontalpodautoscalers/status"), rule("get update", "*", "*/scale"),
			rule("list watch", core, "pods"), rule("list watch", "metrics.k8s.io", "pods"), rule(read, "custom.metrics.k8s.io", "*"), rule(read, "external.metrics.k8s.io", "*"), events()),
		role("job-controller", rule("get list watch update patch", "batch", "jobs"), rule("update", "batch", "jobs/status"), rule("update", "batch", "jobs/finalizers"), rule(owned, core, "pods"), events()),
		role("kube-apiserver-serving-clustertrustbundle-publisher", rule("attest", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-serving"),
			rule("create update delete list watch", "certificates.k8s.io", "clustertrustbundles"), events()),
		role("legacy-service-account-token-cleaner", rule("get", core, "configmaps", "kube-apiserver-legacy-service-account-token-tracking"), rule("delete patch", core, "secrets")),
		role("namespace-controller", rule("get list watch delete", core, "namespaces"), rule("update", core, "namespaces/finalize namespaces/status"), rule("get list watch delete deletecollection", "*", "*")),
		role("node-controller", rule("get list update delete patch watch", core, "nodes"), rule("patch update", core, "nodes/status"), rule("patch update", core, "pods/status"),
			rule("list watch get delete", core, "pods"), rule(read, "coordination.k8s.io", "leases"), events()),
		role("persistent-volume-binder", rule("get list watch update create delete", core, "persistentvolumes"), rule("update", core, "persistentvolumes/status"),
			rule("get list watch update", core, "persistentvolumeclaims"), rule("update", core, "persistentvolumeclaims/status"), rule("list watch get create delete", core, "pods"),
			rule(read, "storage.k8s.io", "storageclasses"), rule("list watch", core, "nodes"), events(), rule("watch", core, "events")),
		role("pod-garbage-collector", rule("list watch delete", core, "pods"), rule(read, core, "nodes"), rule("patch", core, "pods/status")),
		role("podcertificaterequestcleaner", rule("get list watch delete", "certificates.k8s.io", "podcertificaterequests")),
		role("pv-protection-controller", rule("get list watch update", core, "persistentvolumes"), events()),
		role("pvc-protection-controller", rule("get list watch update", core, "persistentvolumeclaims"), rule("update", core, "persistentvolumeclaims/status"), rule(read, core, "pods"), events()),
		role("replicaset-controller", rule("get list watch update", "apps extensions", "replicasets"), rule("update", "apps extensions", "replicasets/status"),
			rule("update", "apps extensions", "replicasets/finalizers"), rule(owned, core, "pods"), events()),
		role("replication-controller", rule("get list watch update", core, "replicationcontrollers"), rule("update", core, "replicationcontrollers/status"),
			rule("update", core, "replicationcontrollers/finalizers"), rule(owned, core, "pods"), events()),
		role("resource-claim-controller", rule(read, core, "pods"), rule("update", core, "pods/finalizers"), rule("get list watch create delete", "resource.k8s.io", "resourceclaims"),
			rule("update patch", "resource.k8s.io", "resourceclaims resourceclaims/status"), rule("update patch", core, "pods/status"), events(), rule("update patch", "resource.k8s.io", "resourceclaims/binding")),
		role("resourcequota-controller", rule("list watch", "*", "*"), rule("update", core, "resourcequotas/status"), events()),
		role("root-ca-cert-publisher", rule("create update", core, "configmaps"), events()),
		role("route-controller", rule("list watch", core, "nodes"), rule("patch", core, "nodes/status"), events()),
		role("selinux-warning-controller", events(), rule(read, core, "persistentvolumes"), rule(read, core, "persistentvolumeclaims"), rule(read, core, "pods"), rule(read, "storage.k8s.io", "csidrivers")),
		role("service-account-controller", rule("create", core, "serviceaccounts"), events()),
		role("service-cidrs-controller", rule("get list patch update watch", "networking.k8s.io", "servicecidrs"), rule("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
			rule("patch update", "networking.k8s.io", "servicecidrs/status"), rule(read, "networking.k8s.io", "ipaddresses"), events()),
		role("service-controller", rule(read, core, "services"), rule("patch update", core, "services/status"), rule("list watch", core, "nodes"), events()),
		role("statefulset-controller", rule("list watch", core, "pods"), rule(read, "apps", "statefulsets"), rule("update", "apps", "statefulsets/status"), rule("update", "apps", "statefulsets/finalizers"),
			rule("create delete get patch update", core, "pods"), rule(renewed, "apps", "controllerrevisions"), rule("create get list watch", core, "persistentvolumeclaims"),
			rule("delete update", core, "persistentvolumeclaims"), rule("update", core, "pods/finalizers"), events()),
		role("storage-version-migrator-controller", rule("list patch", "*", "*"), rule("get", "apiextensions.k8s.io", "customresourcedefinitions"),
			rule("patch", "apiextensions.k8s.io", "customresourcedefinitions/status"), rule("update", "storagemigration.k8s.io", "storageversionmigrations/status")),
		role("ttl-after-finished-controller", rule("get list watch delete", "batch", "jobs"), events()),
		role("ttl-controller", rule("update patch list watch", core, "nodes"), events()),
		role("validatingadmissionpolicy-status-controller", rule(read, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
			rule("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"), events()),
		role("volumeattributesclass-protection-controller", rule(read, core, "persistentvolumeclaims"), rule(read, core, "persistentvolumes"),
			rule("get list update watch", "storage.k8s.io", "volumeattributesclasses"), events()),
	}
}

// WithWorkloads adds to the default roles and bindings what the scheduler and a
// controller may do besides where groups of pods are served.
func WithWorkloads(roles []*rbacv1.ClusterRole, bindings []*rbacv1.ClusterRoleBinding) ([]*rbacv1.ClusterRole, []*rbacv1.ClusterRoleBinding) {
	const name = "podgroup-protection-controller"
	for _, r := range roles {
		if r.Name == "system:kube-scheduler" {
			r.Rules = append(r.Rules, rule(read, "scheduling.k8s.io", "podgroups"), rule("patch update", "scheduling.k8s.io", "podgroups/status"))
		}
	}
	roles = append(roles, clusterRole(controllerPrefix+name, rule("get list watch update", "scheduling.k8s.io", "podgroups"), rule(read, core, "pods")))
	return roles, append(bindings, clusterBinding(controllerPrefix+name, controllerPrefix+name, account(name)))
}

// BootstrapRoles returns the default Roles of the system's namespaces.
func BootstrapRoles() []*rbacv1.Role {
	in := func(namespace, name string, rules ...rbacv1.PolicyRule) *rbacv1.Role {
		r := &rbacv1.Role{ObjectMeta: meta(name), Rules: rules}
		r.Namespace = namespace
		return r
	}
	leading := []rbacv1.PolicyRule{
		rule("create get list update watch", "coordination.k8s.io", "leases"), rule("create get list update watch", "coordination.k8s.io", "leasecandidates"),
	}
	return []*rbacv1.Role{
		in(metav1.NamespacePublic, controllerPrefix+"bootstrap-signer", rule(read, core, "configmaps"), rule("update", core, "configmaps", "cluster-info"), events()),
		in(metav1.NamespaceSystem, "extension-apiserver-authentication-reader", rule(read, core, "configmaps", "extension-apiserver-authentication")),
		in(metav1.NamespaceSystem, "system::leader-locking-kube-controller-manager", leading...),
		in(metav1.NamespaceSystem, "system::leader-locking-kube-scheduler", leading...),
		in(metav1.NamespaceSystem, controllerPrefix+"bootstrap-signer", rule(read, core, "secrets")),
		in(metav1.NamespaceSystem, controllerPrefix+"cloud-provider", rule("create get list watch", core, "configmaps")),
		in(metav1.NamespaceSystem, controllerPrefix+"token-cleaner", rule("delete get list watch", core, "secrets"), events()),
	}
}

// BootstrapRoleBindings returns the default RoleBindings.
func BootstrapRoleBindings() []*rbacv1.RoleBinding {
	bind := func(namespace, name, role string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
		b := &rbacv1.RoleBinding{ObjectMeta: meta(name), Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role}}
		b.Namespace = namespace
		return b
	}
	person := func(name string) rbacv1.Subject {
		return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
	}
	const system, signer = metav1.NamespaceSystem, controllerPrefix + "bootstrap-signer"
	return []*rbacv1.RoleBinding{
		bind(metav1.NamespacePublic, signer, signer, account("bootstrap-signer")),
		bind(system, "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader", person("system:kube-controller-manager"), person("system:kube-scheduler")),
		bind(system, "system::leader-locking-kube-controller-manager", "system::leader-locking-kube-controller-manager",
			person("system:kube-controller-manager"), account("kube-controller-manager"), account("leader-election-controller")),
		bind(system, "system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler", person("system:kube-scheduler"), account("kube-scheduler")),
		bind(system, signer, signer, account("bootstrap-signer")),
		bind(system, controllerPrefix+"cloud-provider", controllerPrefix+"cloud-provider", account("cloud-provider")),
		bind(system, controllerPrefix+"token-cleaner", controllerPrefix+"token-cleaner", account("token-cleaner")),
	}
}
