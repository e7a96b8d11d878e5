package admission_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
		s := &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{NodeName: x}}
		for _, a := range []*resource.Attributes{{Operation: resource.Create, Object: s}, {Operation: resource.Delete, Old: s}} {
			a.Definition, a.User = d, &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}}
			err := admission.NodeRestriction{}.Admit(t.Context(), a)
			if (err == nil) != (name == "own") {
				t.Errorf("%s, %s: %v", name, a.Operation, err)
			}
		}
	}
}

// A node writes mirror pods that refer to nothing, and the status of its pods.
func TestNodePods(t *testing.T) {
	c := newCluster(t)
	c.must(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	n, err := client.Get[*corev1.Node](t.Context(), c, "", "n1")
	if err != nil {
		t.Fatal(err)
	}
	c.must(pod("theirs", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }))
	yes := true
	mirror := func(change ...func(*corev1.Pod)) *corev1.Pod {
		return pod("m", append([]func(*corev1.Pod){func(p *corev1.Pod) {
			p.Namespace, p.Spec.NodeName, p.Spec.ServiceAccountName = "default", "n1", ""
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: n.UID, Controller: &yes}}
		}}, change...)...)
	}
	volume := func(s corev1.VolumeSource) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: s}} }
	}
	projected := func(s corev1.VolumeProjection) func(*corev1.Pod) {
		return volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{s}}})
	}
	plugin := admission.NodeRestriction{Client: c}
	const can = `node "n1" can only `
	const refers = `node "n1" can not create pods that reference `
	for name, x := range map[string]struct {
		a    resource.Attributes
		want string
	}{
		"mirror":       {resource.Attributes{Operation: resource.Create, Object: mirror()}, ""},
		"no mirror":    {resource.Attributes{Operation: resource.Create, Object: mirror(func(p *corev1.Pod) { p.Annotations = nil })}, `pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods`},
		"another's":    {resource.Attributes{Operation: resource.Create, Object: mirror(func(p *corev1.Pod) { p.Spec.NodeName = "n2" })}, can + "create pods with spec.nodeName set to itself"},
		"account":      {resource.Attributes{Operation: resource.Create, Object: mirror(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "a" })}, refers + "serviceaccounts"},
		"device":       {resource.Attributes{Operation: resource.Create, Object: mirror(func(p *corev1.Pod) { p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "a"}} })}, refers + "resourceclaims"},
		"secret":       {resource.Attributes{Operation: resource.Create, Object: mirror(volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}))}, refers + "secrets"},
		"driver":       {resource.Attributes{Operation: resource.Create, Object: mirror(volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d"}}))}, refers + "csidrivers (via CSI volumes)"},
		"ephemeral":    {resource.Attributes{Operation: resource.Create, Object: mirror(volume(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}))}, refers + "persistentvolumeclaims (via ephemeral volumes)"},
		"token":        {resource.Attributes{Operation: resource.Create, Object: mirror(projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}))}, refers + "serviceaccounts (via projected volumes)"},
		"trust bundle": {resource.Attributes{Operation: resource.Create, Object: mirror(projected(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}))}, refers + "clustertrustbundles"},
		"certificate":  {resource.Attributes{Operation: resource.Create, Object: mirror(projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{}}))}, refers + "podcertificates"},
		"labels":       {resource.Attributes{Operation: resource.Create, Object: mirror(projected(corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{}}))}, ""},
		"update":       {resource.Attributes{Operation: resource.Update, Object: mirror(), Old: mirror()}, `unexpected operation "UPDATE", node "n1" can only create and delete mirror pods`},
		"resize":       {resource.Attributes{Operation: resource.Update, Subresource: "resize", Object: mirror(), Old: mirror()}, `unexpected pod subresource "resize", only 'status' and 'eviction' are allowed`},
		"delete":       {resource.Attributes{Operation: resource.Delete, Name: "theirs"}, can + "delete pods with spec.nodeName set to itself"},
		"evict":        {resource.Attributes{Operation: resource.Create, Subresource: "eviction", Name: "theirs"}, "node n1 can only evict pods with spec.nodeName set to itself"},
		"status": {resource.Attributes{Operation: resource.Update, Subresource: "status", Object: mirror(), Old: mirror(func(p *corev1.Pod) { p.Spec.NodeName = "n2" })},
			can + "update pod status for pods with spec.nodeName set to itself"},
		"labels by status": {resource.Attributes{Operation: resource.Update, Subresource: "status", Object: mirror(func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }), Old: mirror()},
			`node "n1" cannot update labels through pod status`},
	} {
		x.a.Definition, x.a.Namespace, x.a.User = object.Of[*corev1.Pod](c.Scheme()), "default", &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}}
		err := plugin.Admit(t.Context(), &x.a)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.HasSuffix(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
	nobody := &resource.Attributes{Operation: resource.Create, Definition: object.Of[*corev1.Pod](c.Scheme()), Object: mirror(), User: &user.DefaultInfo{Name: "system:node:", Groups: []string{user.NodesGroup}}}
	if err := plugin.Admit(t.Context(), nobody); err == nil || !strings.HasSuffix(err.Error(), `could not determine node from user "system:node:"`) {
		t.Errorf("a node without a name: %v", err)
	}
}

// Of a claim a node reports how large its volume is, and nothing else.
func TestNodeClaims(t *testing.T) {
	old := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", ResourceVersion: "1", Labels: map[string]string{"a": "b"}}}
	changed := func(f func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := old.DeepCopy()
		f(c)
		return c
	}
	const other = `node "n1" is not allowed to update fields other than status.quantity and status.conditions: `
	d := object.Of[*corev1.PersistentVolumeClaim](newCluster(t).Scheme())
	for name, x := range map[string]struct {
		a    resource.Attributes
		want string
	}{
		"capacity": {resource.Attributes{Operation: resource.Update, Subresource: "status", Object: changed(func(c *corev1.PersistentVolumeClaim) {
			c.ResourceVersion, c.Status.Capacity = "", corev1.ResourceList{corev1.ResourceStorage: apiresource.MustParse("1Gi")}
		})}, ""},
		"phase":  {resource.Attributes{Operation: resource.Update, Subresource: "status", Object: changed(func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimBound })}, other},
		"labels": {resource.Attributes{Operation: resource.Update, Subresource: "status", Object: changed(func(c *corev1.PersistentVolumeClaim) { c.Labels = nil })}, other},
		"spec":   {resource.Attributes{Operation: resource.Update, Object: changed(func(*corev1.PersistentVolumeClaim) {})}, "may only update PVC status"},
		"create": {resource.Attributes{Operation: resource.Create, Subresource: "status", Object: old}, `unexpected operation "CREATE"`},
	} {
		x.a.Definition, x.a.Namespace, x.a.Old = d, "default", old
		x.a.User = &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}}
		err := admission.NodeRestriction{}.Admit(t.Context(), &x.a)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

// A node asks for certificates for itself and for the pods that run on it.
func TestNodeCertificates(t *testing.T) {
	c := newCluster(t)
	c.must(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	c.must(pod("mine", func(p *corev1.Pod) { p.Spec.NodeName, p.Spec.ServiceAccountName = "n1", "default" }))
	c.must(pod("theirs", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }))
	uid := func(o interface{ GetUID() types.UID }, err error) types.UID {
		if err != nil {
			t.Fatal(err)
		}
		return o.GetUID()
	}
	machine := uid(client.Get[*corev1.Node](t.Context(), c, "", "n1"))
	mine := uid(client.Get[*corev1.Pod](t.Context(), c, "default", "mine"))
	theirs := uid(client.Get[*corev1.Pod](t.Context(), c, "default", "theirs"))
	account := uid(client.Get[*corev1.ServiceAccount](t.Context(), c, "default", "default"))
	ask := func(change func(*certificatesv1.PodCertificateRequestSpec)) *certificatesv1.PodCertificateRequest {
		r := &certificatesv1.PodCertificateRequest{Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: "example.com/s", PodName: "mine", PodUID: mine, ServiceAccountName: "default", ServiceAccountUID: account, NodeName: "n1", NodeUID: machine,
		}}
		change(&r.Spec)
		return r
	}
	plugin := admission.NodeRestriction{Client: c}
	admit := func(a *resource.Attributes) error {
		a.Operation, a.Namespace, a.User = resource.Create, "default", &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}}
		return plugin.Admit(t.Context(), a)
	}
	type spec = certificatesv1.PodCertificateRequestSpec
	for name, x := range map[string]struct {
		change func(*spec)
		want   string
	}{
		"own":             {func(*spec) {}, ""},
		"another node":    {func(s *spec) { s.NodeName = "n2" }, `PodCertificateRequest.Spec.NodeName="n2", which is not the requesting node "n1"`},
		"no such pod":     {func(s *spec) { s.PodName = "gone" }, `pods "gone" not found`},
		"a pod before":    {func(s *spec) { s.PodUID = "x" }, `contains pod UID ("x") which differs from running pod`},
		"another's pod":   {func(s *spec) { s.PodName, s.PodUID = "theirs", theirs }, `pod "default/theirs" is not running on node "n1" named in the PodCertificateRequest`},
		"another account": {func(s *spec) { s.ServiceAccountName = "x" }, `contains serviceAccountName ("x") that differs from running pod ("default")`},
		"account before":  {func(s *spec) { s.ServiceAccountUID = "x" }, `names service account UID "x", which differs from the running service account`},
		"node before":     {func(s *spec) { s.NodeUID = "x" }, `names node UID "x", inconsistent with the running node`},
	} {
		err := admit(&resource.Attributes{Definition: object.Of[*certificatesv1.PodCertificateRequest](c.Scheme()), Object: ask(x.change)})
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for cn, want := range map[string]string{"system:node:n1": "", "system:node:n2": "can only create a node CSR with CN=system:node:n1", "jane": "can only create a node CSR with CN=system:node:n1"} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, k)
		if err != nil {
			t.Fatal(err)
		}
		for _, signer := range []string{certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName, "example.com/s"} {
			err := admit(&resource.Attributes{Definition: object.Of[*certificatesv1.CertificateSigningRequest](c.Scheme()), Object: &certificatesv1.CertificateSigningRequest{
				Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})},
			}})
			if want == "" || signer == "example.com/s" {
				if err != nil {
					t.Errorf("%s of %s: %v", cn, signer, err)
				}
			} else if err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%s of %s: %v, want %q", cn, signer, err, want)
			}
		}
	}
}
