package admission_test

import (
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/admission"
	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

// CVE-2025-5187: a node that could set owners on its Node object could have it
// collected, and come back without its labels and taints.
func TestNodeCannotGiveItselfOwners(t *testing.T) {
	c := newCluster(t)
	node := as(c.engine, "system:node:n1", user.NodesGroup)
	c.must(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"node-restriction.kubernetes.io/secure": "v"}}})
	d := object.Of[*corev1.Node](c.Scheme())
	change := func(f func(*corev1.Node), subresource string) error {
		n, err := client.Get[*corev1.Node](t.Context(), c, "", "n1")
		if err != nil {
			t.Fatal(err)
		}
		n = n.DeepCopy()
		f(n)
		_, err = node.Update(t.Context(), d, n, subresource)
		return err
	}
	for name, x := range map[string]struct {
		change func(*corev1.Node)
		want   string
	}{
		"owners": {func(n *corev1.Node) {
			n.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "gone", UID: "u"}}
		}, "is not allowed to modify ownerReferences"},
		"taints":          {func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}} }, "is not allowed to modify taints"},
		"label added":     {func(n *corev1.Node) { n.Labels["a.k8s.io/b"] = "c" }, "is not allowed to modify labels: a.k8s.io/b"},
		"label removed":   {func(n *corev1.Node) { n.Labels = nil }, "is not allowed to modify labels: node-restriction.kubernetes.io/secure"},
		"what is its own": {func(n *corev1.Node) { n.Labels["team"] = "a"; n.Annotations = map[string]string{"a": "b"} }, ""},
	} {
		for _, sub := range []string{"", "status"} {
			err := change(x.change, sub)
			if x.want == "" && err != nil || x.want != "" && sub == "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("%s, %q: %v, want %q", name, sub, err, x.want)
			}
		}
	}
	n, err := client.Get[*corev1.Node](t.Context(), c, "", "n1")
	if err != nil || len(n.OwnerReferences) > 0 || slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == "a" }) || n.Labels["node-restriction.kubernetes.io/secure"] != "v" {
		t.Errorf("in the end: %+v, %v", n, err)
	}
}

// A node asks for the audiences that its pods name, and no others.
func TestNodeTokenAudiences(t *testing.T) {
	c := newCluster(t)
	rules := authz.NewRBAC(c.hub)
	if err := rules.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := pod("p", func(p *corev1.Pod) {
		p.Spec.NodeName = "n1"
		p.Spec.Volumes = []corev1.Volume{
			{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", Path: "t"}},
			}}}},
			{Name: "c", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "csi.example.com"}}},
		}
	})
	c.must(p)
	c.must(&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "csi.example.com"}, Spec: storagev1.CSIDriverSpec{
		TokenRequests: []storagev1.TokenRequest{{Audience: "store"}}, VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral},
	}})
	c.grant("system:node:n1", rbacv1.PolicyRule{Verbs: []string{"request-serviceaccounts-token-audience"}, APIGroups: []string{""}, Resources: []string{"registry"}, ResourceNames: []string{"bot"}})
	have, err := client.Get[*corev1.Pod](t.Context(), c, "default", "p")
	if err != nil {
		t.Fatal(err)
	}
	plugin := admission.NodeRestriction{Client: c, Authorizer: rules}
	for audiences, want := range map[string]string{
		"vault": "", "store": "", "registry": "", "": "", // a volume of the account's own token is always there
		"other":   `audience "other" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience`,
		"vault,x": "node may only request 0 or 1 audiences",
	} {
		req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: have.UID}}}
		if audiences != "" {
			req.Spec.Audiences = strings.Split(audiences, ",")
		}
		err := plugin.Admit(t.Context(), &resource.Attributes{
			Operation: resource.Create, Definition: object.Of[*corev1.ServiceAccount](c.Scheme()), Namespace: "default", Name: "bot", Subresource: "token",
			Object: req, User: &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}},
		})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", audiences, err, want)
		}
	}
}

func TestNodeResourceSlices(t *testing.T) {
	one, two := "n1", "n2"
	d := object.Of[*resourcev1.ResourceSlice](newCluster(t).Scheme())
	for name, x := range map[string]*string{"own": &one, "another's": &two, "nobody's": nil} {
		err := admission.NodeRestriction{}.Admit(t.Context(), &resource.Attributes{
			Operation: resource.Create, Definition: d, Object: &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{NodeName: x}},
			User: &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}},
		})
		if (err == nil) != (name == "own") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
