package authz_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/authz"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// conformance: [sig-auth] [Feature:NodeAuthorizer] (what a node may get, and the
// selectors that it must give)
func TestNodeAuthorizer(t *testing.T) {
	t.Run("with the pods in view", func(t *testing.T) { testNodeAuthorizer(t, false) })
	t.Run("before they are", func(t *testing.T) { testNodeAuthorizer(t, true) })
}

func testNodeAuthorizer(t *testing.T, held bool) {
	one, claim := "n1", "device"
	container := []corev1.Container{{Name: "c", Image: "i"}}
	driver := "x"
	c := fake.New(object.NewScheme(kinds.All()...),
		&corev1.Pod{ObjectMeta: named("ns", "mine"), Spec: corev1.PodSpec{
			NodeName: "n1", Containers: container, ServiceAccountName: "bot",
			Volumes: []corev1.Volume{
				{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "used"}}},
				{Name: "p", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}},
			},
			ResourceClaims: []corev1.PodResourceClaim{{Name: "d", ResourceClaimName: &claim}},
		}},
		&corev1.Pod{ObjectMeta: named("ns", "theirs"), Spec: corev1.PodSpec{
			NodeName: "n2", Containers: container, Volumes: []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "unused"}}}},
		}},
		&corev1.PersistentVolume{ObjectMeta: named("", "pv"), Spec: corev1.PersistentVolumeSpec{
			ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "claim"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: driver, VolumeHandle: "h", NodePublishSecretRef: &corev1.SecretReference{Namespace: "drivers", Name: "publish"},
				ControllerPublishSecretRef: &corev1.SecretReference{Namespace: "drivers", Name: "controller"},
			}},
		}},
		&storagev1.VolumeAttachment{ObjectMeta: named("", "va1"), Spec: storagev1.VolumeAttachmentSpec{NodeName: "n1", Attacher: driver}},
		&storagev1.VolumeAttachment{ObjectMeta: named("", "va2"), Spec: storagev1.VolumeAttachmentSpec{NodeName: "n2", Attacher: driver}},
		&certificatesv1.PodCertificateRequest{ObjectMeta: named("ns", "mine"), Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "n1"}},
		&certificatesv1.PodCertificateRequest{ObjectMeta: named("ns", "theirs"), Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "n2"}},
		&resourcev1.ResourceSlice{ObjectMeta: named("", "slice"), Spec: resourcev1.ResourceSliceSpec{NodeName: &one, Driver: driver}},
	)
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	node := authz.NewNode(hub)
	if held {
		hub.Hold()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); c.Close() })
	pods := reconcile.ViewOf[*corev1.Pod](hub)
	if !held {
		for _, synced := range []func(context.Context) error{
			pods.Synced, reconcile.ViewOf[*corev1.PersistentVolume](hub).Synced,
			reconcile.ViewOf[*storagev1.VolumeAttachment](hub).Synced, reconcile.ViewOf[*resourcev1.ResourceSlice](hub).Synced,
		} {
			if err := synced(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	// verb group/resource[/subresource] namespace/name [field=value]: reason, or yes
	for ask, want := range map[string]string{
		"get /secrets ns/used":                                   "yes",
		"list /secrets ns/used":                                  "yes",
		"list /secrets ns/":                                      "No Object name found",
		"get /secrets ns/unused":                                 "no relationship found between node 'n1' and this object",
		"get /secrets other/used":                                "no relationship found between node 'n1' and this object",
		"get /secrets drivers/publish":                           "yes",
		"get /secrets drivers/controller":                        "no relationship found",
		"update /secrets ns/used":                                "can only read resources of this type",
		"get /configmaps ns/used":                                "no relationship found",
		"get /persistentvolumeclaims ns/claim":                   "yes",
		"get /persistentvolumeclaims ns/other":                   "no relationship found",
		"patch /persistentvolumeclaims/status ns/claim":          "yes",
		"patch /persistentvolumeclaims/status ns/other":          "no relationship found",
		"delete /persistentvolumeclaims ns/claim":                "can only read",
		"get /persistentvolumes /pv":                             "yes",
		"get /persistentvolumes /other":                          "no relationship found",
		"get storage.k8s.io/volumeattachments /va1":              "yes",
		"get storage.k8s.io/volumeattachments /va2":              "no relationship found",
		"create /serviceaccounts/token ns/bot":                   "yes",
		"create /serviceaccounts/token ns/other":                 "no relationship found",
		"create /serviceaccounts/token ns/":                      "can only create tokens for individual service accounts",
		"get /nodes /n1":                                         "yes",
		"get /nodes /n2":                                         "node 'n1' cannot read 'n2', only its own Node object",
		"list /nodes /":                                          "node 'n1' cannot read all nodes, only its own Node object",
		"delete /nodes /n1":                                      "",
		"create /nodes /":                                        "yes",
		"patch /nodes/status /n1":                                "yes",
		"get /pods ns/mine":                                      "yes",
		"get /pods ns/theirs":                                    "no relationship found",
		"list /pods /":                                           "can only list/watch pods with spec.nodeName field selector",
		"list /pods / spec.nodeName=n1":                          "yes",
		"watch /pods / spec.nodeName=n2":                         "can only list/watch pods",
		"watch /pods ns/mine":                                    "yes",
		"update /pods ns/mine":                                   "",
		"get /pods/log ns/mine":                                  "",
		"create /pods/eviction ns/theirs":                        "yes",
		"get resource.k8s.io/resourceclaims ns/device":           "yes",
		"get resource.k8s.io/resourceclaims ns/other":            "no relationship found",
		"delete resource.k8s.io/resourceslices /slice":           "yes",
		"delete resource.k8s.io/resourceslices /other":           "no relationship found",
		"list resource.k8s.io/resourceslices /":                  "can only list/watch/deletecollection resourceslices with nodeName field selector",
		"list resource.k8s.io/resourceslices / spec.nodeName=n1": "yes",
		"get coordination.k8s.io/leases kube-node-lease/n1":      "yes",
		"get coordination.k8s.io/leases kube-node-lease/n2":      "can only access node lease with the same name as the requesting node",
		"get coordination.k8s.io/leases kube-system/n1":          `can only access leases in the "kube-node-lease" system namespace`,
		"list coordination.k8s.io/leases kube-node-lease/":       "can only get, create, update, patch, or delete a node lease",
		"update storage.k8s.io/csinodes /n1":                     "yes",
		"update storage.k8s.io/csinodes /n2":                     "can only access CSINode with the same name as the requesting node",
		"list node.k8s.io/runtimeclasses /":                      "yes",
		"watch certificates.k8s.io/clustertrustbundles /":        "yes",
		"get /persistentvolumeclaims/status ns/claim":            "can only get/update/patch this type",

		"create certificates.k8s.io/podcertificaterequests ns/":               "yes",
		"get certificates.k8s.io/podcertificaterequests ns/mine":              "yes",
		"get certificates.k8s.io/podcertificaterequests ns/theirs":            "no relationship found",
		"list certificates.k8s.io/podcertificaterequests /":                   "can only list/watch podcertificaterequests with nodeName field selector",
		"watch certificates.k8s.io/podcertificaterequests / spec.nodeName=n1": "yes",
		"delete certificates.k8s.io/podcertificaterequests ns/mine":           "nodes may not delete podcertificaterequests",
		"update certificates.k8s.io/podcertificaterequests/status ns/mine":    "nodes may not access the status subresource of PodCertificateRequests",
		"list rbac.authorization.k8s.io/clusterroles /":                       "",
	} {
		f := append(strings.Fields(ask), "")
		group, what, _ := strings.Cut(f[1], "/")
		res, sub, _ := strings.Cut(what, "/")
		namespace, name, _ := strings.Cut(f[2], "/")
		a := authorizer.AttributesRecord{
			User: &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}}, ResourceRequest: true,
			Verb: f[0], APIGroup: group, Resource: res, Subresource: sub, Namespace: namespace, Name: name,
		}
		if f[3] != "" {
			s, err := fields.ParseSelector(f[3])
			if err != nil {
				t.Fatal(err)
			}
			a.FieldSelectorRequirements = s.Requirements()
		}
		decision, reason, err := node.Authorize(t.Context(), a)
		if (decision == authorizer.DecisionAllow) != (want == "yes") || err != nil || want != "yes" && (!strings.Contains(reason, want) || want == "" && reason != "") {
			t.Errorf("%s: %v %q %v, want %q", ask, decision, reason, err, want)
		}
		a.User = &user.DefaultInfo{Name: "system:node:n1"}
		if decision, _, _ := node.Authorize(t.Context(), a); decision != authorizer.DecisionNoOpinion {
			t.Errorf("%s: decided about somebody who is no node", ask)
		}
	}
	if held && pods.Revision() != 0 {
		t.Error("all pods were read to decide about those of one node")
	}
}
