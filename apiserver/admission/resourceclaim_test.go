package admission_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/client"
	"sagong/client/direct"
)

func deviceClaim(namespace, name string, admin bool) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	c.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "gpu", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AdminAccess: &admin}}}
	return c
}

func TestAdminAccessToDevices(t *testing.T) {
	c := newCluster(t)
	c.must(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ops", Labels: map[string]string{resourcev1.DRAAdminNamespaceLabelKey: "true"}}})
	const want = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
	c.refused(c, deviceClaim("default", "a", true), want)
	template := &resourcev1.ResourceClaimTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}}
	template.Spec.Spec = deviceClaim("", "", true).Spec
	c.refused(c, template, want)
	c.must(deviceClaim("default", "b", false))
	c.must(deviceClaim("ops", "c", true))

	allocate := func(namespace, name string) error {
		x, err := client.Get[*resourcev1.ResourceClaim](t.Context(), c, namespace, name)
		if err != nil {
			t.Fatal(err)
		}
		x, yes := x.DeepCopy(), true
		x.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
			Results: []resourcev1.DeviceRequestAllocationResult{{Request: "gpu", Driver: "d", Pool: "p", Device: "a", AdminAccess: &yes}},
		}}
		_, err = client.UpdateStatus(t.Context(), c, x)
		return err
	}
	if err := allocate("ops", "c"); err != nil {
		t.Error(err)
	}
	if err := allocate("default", "b"); err == nil || !strings.Contains(err.Error(), "status.allocation.devices.results[0].adminAccess: Forbidden: admin access") {
		t.Errorf("admin access granted where it may not be: %v", err)
	}
}

// Who may write the status of claims may not yet bind them, nor speak for
// drivers.
func TestStatusOfClaims(t *testing.T) {
	c := newCluster(t)
	c.must(deviceClaim("default", "a", false))
	allow := func(name, verbs, resource, driver string) {
		r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{{
			Verbs: strings.Fields(verbs), APIGroups: []string{resourcev1.GroupName}, Resources: []string{resource},
		}}}
		if driver != "" {
			r.Rules[0].ResourceNames = []string{driver}
		}
		known(c, r)
		known(c, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: name}},
		})
	}
	allow("binders", "update", "resourceclaims/binding", "")
	allow("local", "associated-node:update", "resourceclaims/driver", "d")
	allow("global", "arbitrary-node:update", "resourceclaims/driver", "d")

	write := func(group, node string, f func(*resourcev1.ResourceClaimStatus)) error {
		x, err := client.Get[*resourcev1.ResourceClaim](t.Context(), c, "default", "a")
		if err != nil {
			t.Fatal(err)
		}
		x = x.DeepCopy()
		f(&x.Status)
		u := &user.DefaultInfo{Name: "system:serviceaccount:default:driver", Groups: []string{group}, Extra: map[string][]string{serviceaccount.NodeNameKey: {node}}}
		_, err = client.UpdateStatus(t.Context(), direct.New(c.engine, u, "test", nil), x)
		return err
	}
	allocate := func(s *resourcev1.ResourceClaimStatus) {
		s.Allocation = &resourcev1.AllocationResult{
			Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{{Request: "gpu", Driver: "d", Pool: "p", Device: "a"}}},
			NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n"}}},
			}}},
		}
	}
	speak := func(s *resourcev1.ResourceClaimStatus) {
		s.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: "d", Pool: "p", Device: "a"}}
	}
	for _, x := range []struct {
		group, node string
		change      func(*resourcev1.ResourceClaimStatus)
		want        string
	}{
		{"local", "n", allocate, `changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="update" permission`},
		{"binders", "", allocate, ""},
		{"binders", "", speak, `changing status.devices requires resource="resourceclaims/driver", verb="[arbitrary-node:update]" permission`},
		{"local", "m", speak, `verb="[arbitrary-node:update]" permission`},
		{"local", "n", speak, ""},
		{"global", "m", func(s *resourcev1.ResourceClaimStatus) { s.Devices = nil }, ""},
	} {
		if err := write(x.group, x.node, x.change); x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s on %q: %v, want %q", x.group, x.node, err, x.want)
		}
	}
}
