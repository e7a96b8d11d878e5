package compose

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"sagong/config"
	"sagong/object"
)

// factsName is the ConfigMap in kube-public from which joining nodes learn the
// cluster's addresses, and the role by which they may read it.
const factsName = "sagong-cluster"

func factsMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: factsName}
}

func factsConfigMap(c config.Config) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: factsMeta(), Data: map[string]string{
		"name": c.Name, "clusterCIDR": c.ClusterCIDR, "serviceCIDR": c.ServiceCIDR, "clusterDNS": c.ClusterDNS, "clusterDomain": c.ClusterDomain,
	}}
}

// factsAccess lets nodes read the ConfigMap.
func factsAccess() []object.Object {
	return []object.Object{
		&rbacv1.Role{ObjectMeta: factsMeta(), Rules: []rbacv1.PolicyRule{{
			Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{factsName},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: factsMeta(), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: factsName},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "system:nodes"}},
		},
	}
}

// factsOf are a server's own.
func factsOf(c config.Config) clusterFacts {
	return clusterFacts{
		clusterCIDR: netip.MustParsePrefix(c.ClusterCIDR), serviceCIDR: netip.MustParsePrefix(c.ServiceCIDR),
		dns: netip.MustParseAddr(c.ClusterDNS), domain: c.ClusterDomain, name: c.Name,
	}
}

// readFacts reads them as a node.
func readFacts(ctx context.Context, m *membership) (f clusterFacts, err error) {
	api, err := kubernetes.NewForConfig(m.restConfig())
	if err != nil {
		return f, fmt.Errorf("cannot read the cluster's addresses: %w", err)
	}
	cm, err := api.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, factsName, metav1.GetOptions{})
	if err != nil {
		return f, fmt.Errorf("cannot read the cluster's addresses: %w", err)
	}
	f.domain, f.name = cm.Data["clusterDomain"], cm.Data["name"]
	if f.clusterCIDR, err = netip.ParsePrefix(cm.Data["clusterCIDR"]); err == nil {
		if f.serviceCIDR, err = netip.ParsePrefix(cm.Data["serviceCIDR"]); err == nil {
			f.dns, err = netip.ParseAddr(cm.Data["clusterDNS"])
		}
	}
	if err != nil {
		return f, fmt.Errorf("cannot read the cluster's addresses: %w", err)
	}
	return f, nil
}
