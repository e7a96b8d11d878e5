package authz_test

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"sagong/apiserver/authz"
)

// Every binding leads to a role that is there, every name occurs once, all carry
// the marks by which a new version brings them up to date, and what a role may
// do is written as upstream does.
func TestBootstrapRoles(t *testing.T) {
	roles := map[string][]rbacv1.PolicyRule{}
	add := func(name string, labels, annotations map[string]string, rules []rbacv1.PolicyRule) {
		if _, twice := roles[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		if labels["kubernetes.io/bootstrapping"] != "rbac-defaults" || annotations[rbacv1.AutoUpdateAnnotationKey] != "true" {
			t.Errorf("%s: labels %v, annotations %v", name, labels, annotations)
		}
		roles[name] = rules
		for _, r := range rules {
			if len(r.Verbs) == 0 || (len(r.APIGroups) == 0 || len(r.Resources) == 0) == (len(r.NonResourceURLs) == 0) || slices.Contains(r.APIGroups, "core") {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	for _, r := range authz.BootstrapClusterRoles() {
		add(r.Name, r.Labels, r.Annotations, r.Rules)
	}
	for _, r := range authz.BootstrapRoles() {
		add(r.Namespace+"/"+r.Name, r.Labels, r.Annotations, r.Rules)
	}
	for _, b := range authz.BootstrapClusterRoleBindings() {
		if _, ok := roles[b.RoleRef.Name]; !ok {
			t.Errorf("%s binds %s, which is not there", b.Name, b.RoleRef.Name)
		}
	}
	for _, b := range authz.BootstrapRoleBindings() {
		if _, ok := roles[b.Namespace+"/"+b.RoleRef.Name]; !ok {
			t.Errorf("%s binds %s, which is not there", b.Name, b.RoleRef.Name)
		}
	}
	// Those that charts and operators of others build on.
	for _, name := range []string{
		"admin", "cluster-admin", "edit", "view", "system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view", "system:auth-delegator",
		"system:basic-user", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
		"system:certificates.k8s.io:kube-apiserver-client-approver", "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
		"system:certificates.k8s.io:kubelet-serving-approver", "system:certificates.k8s.io:legacy-unknown-approver", "system:discovery", "system:heapster",
		"system:kube-aggregator", "system:kube-controller-manager", "system:kube-dns", "system:kube-scheduler", "system:kubelet-api-admin", "system:monitoring",
		"system:node", "system:node-bootstrapper", "system:node-problem-detector", "system:node-proxier", "system:persistent-volume-provisioner",
		"system:public-info-viewer", "system:service-account-issuer-discovery", "system:volume-scheduler", "kube-system/extension-apiserver-authentication-reader",
	} {
		if _, ok := roles[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	// view must not open Secrets, edit must not open roles.
	for role, never := range map[string]string{"system:aggregate-to-view": "secrets", "system:aggregate-to-edit": "roles", "system:aggregate-to-admin": "clusterroles"} {
		for _, r := range roles[role] {
			if slices.ContainsFunc(r.Resources, func(res string) bool {
				return res == never || res == "*" || strings.HasPrefix(res, "pods/exec") && role == "system:aggregate-to-view"
			}) {
				t.Errorf("%s holds %+v", role, r)
			}
		}
	}
}
