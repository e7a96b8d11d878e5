package admission_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/admission"
	"sagong/apiserver/admission/quota"
	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
	"sagong/store"
)

// late breaks the circle between the engine and the rules that read through it.
type late struct{ resource.Admission }

func (l *late) AfterWrite(ctx context.Context, a *resource.Attributes, err error) {
	l.Admission.(resource.AfterWrite).AfterWrite(ctx, a, err)
}

// cluster is an API in memory with every rule on.
type cluster struct {
	*testing.T
	engine *resource.Engine
	client.Client
	hub *reconcile.Hub
}

func newCluster(t *testing.T) *cluster { return newClusterWith(t, admission.Deps{}) }

// newClusterWith has some rules configured, and those on that are off otherwise.
func newClusterWith(t *testing.T, d admission.Deps, enable ...string) *cluster {
	t.Helper()
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	var l late
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(append(kinds.All(), kinds.Workloads()...)...), Admission: &l})
	c := &cluster{T: t, engine: e, Client: as(e, "admin", user.SystemPrivilegedGroup)}
	c.hub = reconcile.NewHub(c.Client, slog.New(slog.DiscardHandler))
	rules := authz.NewRBAC(c.hub)
	security, err := admission.NewPodSecurity(c.Client, c.hub, nil, admission.NewPodSecurityMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	d.Workloads, d.PodSecurity, d.Quota = true, &security, quota.New(c.hub, time.Now)
	d.Client, d.Engine, d.Hub, d.Rules = c.Client, e, c.hub, rules
	d.Authorizer = authz.Chain{{Name: authz.MastersName, Authorizer: authz.Masters{}}, {Name: "rbac", Authorizer: rules}}
	d.FirstNodePort, d.LastNodePort = 30000, 30009
	chosen, err := admission.Choose(admission.All(d), enable, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Admission = admission.NewChain(chosen...)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		s.Close()
	})
	if err := rules.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.must(serviceCIDR("kubernetes", "10.96.0.0/24"))
	c.must(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	c.must(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}})
	return c
}

func as(e *resource.Engine, name string, groups ...string) *direct.Client {
	return direct.New(e, &user.DefaultInfo{Name: name, Groups: groups}, "test", nil)
}

func (c *cluster) must(o object.Object) object.Object {
	c.Helper()
	out, err := c.Create(c.Context(), c.Scheme().ByObject(o), o)
	if err != nil {
		c.Fatalf("cannot create %T %s: %v", o, o.GetName(), err)
	}
	return out
}

// known creates an object and waits until those who follow its kind know it.
func known[T object.Object](c *cluster, o T) {
	c.Helper()
	if err := reconcile.ViewOf[T](c.hub).WaitRevision(c.Context(), object.RevisionOf(c.must(o))); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) refused(cl client.Client, o object.Object, want string) {
	c.Helper()
	_, err := cl.Create(c.Context(), c.Scheme().ByObject(o), o)
	if err == nil || !strings.Contains(err.Error(), want) {
		c.Errorf("creating %T %s: %v, want %q", o, o.GetName(), err, want)
	}
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "i"}},
	}}
	for _, f := range change {
		f(p)
	}
	return p
}

func TestPodGetsAccountTokenPriorityAndTolerations(t *testing.T) {
	c := newCluster(t)
	c.must(&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000})
	p := c.must(pod("p", func(p *corev1.Pod) { p.Spec.PriorityClassName = "high" })).(*corev1.Pod)
	if p.Spec.ServiceAccountName != "default" || *p.Spec.Priority != 1000 || len(p.Spec.Tolerations) != 2 {
		t.Errorf("account %q, priority %d, tolerations %v", p.Spec.ServiceAccountName, *p.Spec.Priority, p.Spec.Tolerations)
	}
	if n := len(p.Spec.Volumes); n != 1 || p.Spec.Volumes[0].Projected == nil {
		t.Fatalf("volumes %v", p.Spec.Volumes)
	}
	if m := p.Spec.Containers[0].VolumeMounts; len(m) != 1 || m[0].MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" || m[0].Name != p.Spec.Volumes[0].Name {
		t.Errorf("mounts %v", m)
	}
	no := false
	q := c.must(pod("q", func(p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = &no })).(*corev1.Pod)
	if len(q.Spec.Volumes) != 0 {
		t.Errorf("a pod that wants no token has volumes %v", q.Spec.Volumes)
	}
	c.refused(c, pod("r", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "nobody" }), `pods "r" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found`)
	c.refused(c, pod("s", func(p *corev1.Pod) { p.Spec.PriorityClassName = "none" }), `pods "s" is forbidden: no PriorityClass with name none was found`)
}

func TestNamespaces(t *testing.T) {
	c := newCluster(t)
	elsewhere := pod("p")
	elsewhere.Namespace = "nowhere"
	c.refused(c, elsewhere, `namespaces "nowhere" not found`)
	if err := client.Delete[*corev1.Namespace](t.Context(), c, "", "default", metav1.DeleteOptions{}); err == nil || !strings.Contains(err.Error(), "this namespace may not be deleted") {
		t.Errorf("deleting default: %v", err)
	}
}

func service(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"a": "b"}, Ports: []corev1.ServicePort{{Port: 80}},
	}}
	for _, f := range change {
		f(s)
	}
	return s
}

func nodePort(n int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, n }
}

func TestServiceAddressesAreUniqueAndReturn(t *testing.T) {
	c := newCluster(t)
	seen := map[string]bool{}
	for i := range 8 {
		s := c.must(service(fmt.Sprint("s", i), nodePort(0))).(*corev1.Service)
		key := s.Spec.ClusterIP
		if seen[key] || !netip.MustParsePrefix("10.96.0.0/24").Contains(netip.MustParseAddr(key)) || s.Spec.Ports[0].NodePort < 30000 {
			t.Fatalf("address %s, port %d", key, s.Spec.Ports[0].NodePort)
		}
		seen[key] = true
	}
	taken := func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.1" }
	c.must(service("fixed", taken))
	c.refused(c, service("again", taken), `spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated`)
	c.refused(c, service("far", func(s *corev1.Service) { s.Spec.ClusterIP = "192.0.2.1" }), `spec.clusterIPs: Invalid value: ["192.0.2.1"]: failed to allocate IP 192.0.2.1: the provided network does not match the current range`)
	c.refused(c, service("low", nodePort(80)), `spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30009`)
	// Refusals for other reasons give back what was taken on the way, and so
	// does a deletion: the ten ports never run out.
	for i := range 30 {
		bad := service("Bad_Name", nodePort(0))
		c.refused(c, bad, "Invalid value")
		name := fmt.Sprint("turn", i)
		c.must(service(name, nodePort(0)))
		if err := client.Delete[*corev1.Service](t.Context(), c, "default", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		list, err := c.List(t.Context(), object.Of[*corev1.Service](c.Scheme()), "", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := reconcile.ViewOf[*corev1.Service](c.hub).WaitRevision(t.Context(), list.Revision); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServiceUpdateKeepsWhatItLeavesOut(t *testing.T) {
	c := newCluster(t)
	s := c.must(service("s", nodePort(30003))).(*corev1.Service)
	bare := service("s", nodePort(0))
	out, err := client.Update(t.Context(), c, bare)
	if err != nil {
		t.Fatal(err)
	}
	if out.Spec.ClusterIP != s.Spec.ClusterIP || out.Spec.Ports[0].NodePort != 30003 {
		t.Errorf("address %s became %s, port 30003 became %d", s.Spec.ClusterIP, out.Spec.ClusterIP, out.Spec.Ports[0].NodePort)
	}
	plain := out.DeepCopy()
	plain.Spec.Type = corev1.ServiceTypeClusterIP
	if out, err = client.Update(t.Context(), c, plain); err != nil || out.Spec.Ports[0].NodePort != 0 {
		t.Errorf("as ClusterIP: %v %v", out, err)
	}
}

func TestNobodyGrantsWhatTheyDoNotHold(t *testing.T) {
	c := newCluster(t)
	known(c, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "reader"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}},
		{Verbs: []string{"create"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}},
	}})
	known(c, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "jane"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"}})
	jane := as(c.engine, "jane", user.AllAuthenticated)
	role := func(name string, verbs ...string) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Rules: []rbacv1.PolicyRule{
			{Verbs: verbs, APIGroups: []string{""}, Resources: []string{"pods"}},
		}}
	}
	if _, err := jane.Create(t.Context(), object.Of[*rbacv1.Role](c.Scheme()), role("same", "get")); err != nil {
		t.Errorf("a role no stronger than one's own: %v", err)
	}
	c.refused(jane, role("more", "get", "delete", "watch"), `user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:[""], Resources:["pods"], Verbs:["delete" "watch"]}`)
	// Who may escalate a role by its name may change it, but not make it.
	may := func(who, verb, res, name string) client.Client {
		return c.grant(who, rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{res}, ResourceNames: []string{name}},
			rbacv1.PolicyRule{Verbs: []string{"create", "update"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}})
	}
	ann := may("ann", "escalate", "roles", "strong")
	rules := authz.NewRBAC(c.hub)
	if err := rules.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := admission.RBACEscalation{Rules: rules, Authorizer: rules}.Validate(t.Context(), &resource.Attributes{
		Operation: resource.Create, Definition: object.Of[*rbacv1.Role](c.Scheme()), Namespace: "default", Object: role("strong", "get"),
		User: &user.DefaultInfo{Name: "ann", Groups: []string{user.AllAuthenticated}},
	})
	if err == nil || !strings.Contains(err.Error(), "is attempting to grant RBAC permissions not currently held") {
		t.Errorf("making a role that one may escalate: %v", err)
	}
	c.must(role("strong", "list"))
	if _, err := client.Update(t.Context(), ann, role("strong", "get")); err != nil {
		t.Errorf("changing a role that one may escalate: %v", err)
	}
	// Who may bind a role by its name may give it to others.
	bob := may("bob", "bind", "roles", "strong")
	binding := func(name, to string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: to}}
	}
	if _, err := client.Create(t.Context(), bob, binding("by-name", "strong")); err != nil {
		t.Errorf("binding a role that one may bind: %v", err)
	}
	c.refused(bob, binding("other", "reader"), "is attempting to grant RBAC permissions not currently held")
	if _, err := client.Create(t.Context(), bob, binding("nothing", "gone")); !apierrors.IsNotFound(err) || !strings.HasSuffix(err.Error(), `roles.rbac.authorization.k8s.io "gone" not found`) {
		t.Errorf("binding a role that is not there: %v", err)
	}
	c.refused(jane, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "up"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}}, "not found")
}

func TestNodeKeepsToItself(t *testing.T) {
	c := newCluster(t)
	node := as(c.engine, "system:node:n1", user.NodesGroup)
	c.refused(node, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, `node "n1" is not allowed to modify node "n2"`)
	c.refused(node, pod("p"), "can only create mirror pods")
	if _, err := node.Create(t.Context(), object.Of[*corev1.Node](c.Scheme()), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Error(err)
	}
	c.must(pod("other", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }))
	err := client.Delete[*corev1.Pod](t.Context(), node, "default", "other", metav1.DeleteOptions{})
	if err == nil || !strings.Contains(err.Error(), `node "n1" can only delete pods with spec.nodeName set to itself`) {
		t.Errorf("deleting another node's pod: %v", err)
	}
}

var _ authorizer.UnconditionalAuthorizer = authz.Masters{}

func TestNodeCannotReachSecretsThroughPodsOfItsOwn(t *testing.T) {
	c := newCluster(t)
	node := as(c.engine, "system:node:n1", user.NodesGroup)
	c.must(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	self, err := client.Get[*corev1.Node](t.Context(), c, "", "n1")
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	c.grant("system:node:n1", rbacv1.PolicyRule{Verbs: []string{"delete"}, APIGroups: []string{""}, Resources: []string{"pods"}})
	mirror := func(change func(*corev1.PodSpec)) *corev1.Pod {
		return pod("mirror", func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: self.UID, Controller: &yes}}
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			p.Spec.NodeName = "n1"
			change(&p.Spec)
		})
	}
	ref := corev1.LocalObjectReference{Name: "theirs"}
	for what, change := range map[string]func(*corev1.PodSpec){
		"secrets": func(s *corev1.PodSpec) {
			s.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref}}}
		},
		"configmaps": func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref}}}}
		},
		"serviceaccounts": func(s *corev1.PodSpec) { s.ServiceAccountName = "theirs" },
	} {
		c.refused(node, mirror(change), `node "n1" can not create pods that reference `+what)
	}
	if _, err := node.Create(t.Context(), object.Of[*corev1.Pod](c.Scheme()), mirror(func(*corev1.PodSpec) {})); err != nil {
		t.Errorf("a mirror pod that uses nothing: %v", err)
	}
}

func TestNodeSetsOnlyItsOwnLabels(t *testing.T) {
	c := newCluster(t)
	for label, ok := range map[string]bool{
		"team": true, "example.com/disk": true, corev1.LabelHostname: true, corev1.LabelTopologyZone: true, "node.kubernetes.io/any": true,
		"node-restriction.kubernetes.io/secure": false, "x.node-restriction.kubernetes.io/secure": false, "node-role.kubernetes.io/control-plane": false, "foo.k8s.io/x": false,
	} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{label: "v"}}}
		agent := as(c.engine, "system:node:n1", user.NodesGroup)
		if ok {
			if _, err := client.Create(t.Context(), agent, n); err != nil {
				t.Errorf("%s: %v", label, err)
			} else if err := client.Delete[*corev1.Node](t.Context(), c, "", "n1", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		c.refused(agent, n, "is not allowed to set the following labels: "+label)
	}
}

// grant lets a user do something everywhere.
func (c *cluster) grant(who string, rules ...rbacv1.PolicyRule) client.Client {
	c.Helper()
	known(c, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: who}, Rules: rules})
	known(c, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: who},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: who}},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: who}})
	return as(c.engine, who, user.AllAuthenticated)
}

func TestSelectorsOfAnAggregatedRoleAreForThoseWhoMayAll(t *testing.T) {
	c := newCluster(t)
	aggregated := func(label string) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "gathers"}, AggregationRule: &rbacv1.AggregationRule{
			ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{label: "true"}}},
		}}
	}
	c.must(aggregated("mine"))
	jane := c.grant("jane", rbacv1.PolicyRule{Verbs: []string{"update"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}})
	for _, o := range []*rbacv1.ClusterRole{aggregated("everything"), {ObjectMeta: metav1.ObjectMeta{Name: "gathers", Labels: map[string]string{"a": "b"}}}} {
		if _, err := client.Update(t.Context(), jane, o); err == nil || !strings.Contains(err.Error(), "must have cluster-admin privileges to use the aggregationRule") {
			t.Errorf("changing what an aggregated role gathers: %v", err)
		}
	}
	// The garbage collector's changes grant nothing.
	collectable := aggregated("mine")
	collectable.Finalizers = []string{"example.com/hold"}
	if _, err := client.Update(t.Context(), jane, collectable); err != nil {
		t.Errorf("adding a finalizer: %v", err)
	}
}

func TestCertificatesAreApprovedBySignerAndNeverForMasters(t *testing.T) {
	c := newCluster(t)
	request := func(name string, organizations ...string) *certificatesv1.CertificateSigningRequest {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x", Organization: organizations}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: certificatesv1.KubeAPIServerClientSignerName,
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		}}
	}
	c.refused(c, request("root", user.SystemPrivilegedGroup), "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed")
	r := c.must(request("plain", "dev")).(*certificatesv1.CertificateSigningRequest)
	def := object.Of[*certificatesv1.CertificateSigningRequest](c.Scheme())
	rule := func(verb, res, name string) rbacv1.PolicyRule {
		out := rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{certificatesv1.GroupName}, Resources: []string{res}}
		if name != "" {
			out.ResourceNames = []string{name}
		}
		return out
	}
	approve := func(as client.Client) error {
		out := r.DeepCopy()
		out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "x"})
		_, err := as.Update(t.Context(), def, out, "approval")
		return err
	}
	// In this order: the one that succeeds changes the request.
	for _, x := range []struct {
		who  string
		rule rbacv1.PolicyRule
		want string
	}{
		{"elsewhere", rule("approve", "signers", "example.com/*"), "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""},
		{"signs", rule("sign", "signers", "kubernetes.io/*"), "user not permitted to approve"},
		{"approves", rule("approve", "signers", "kubernetes.io/*"), ""},
	} {
		err := approve(c.grant(x.who, rule("update", "certificatesigningrequests/approval", ""), x.rule))
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", x.who, err, x.want)
		}
	}
}
