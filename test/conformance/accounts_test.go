package conformance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sagong/apiserver/authz"
)

func TestServiceAccounts(t *testing.T) {
	account := func(c *cluster, name string, automount *bool) *corev1.ServiceAccount {
		return must(c.CoreV1().ServiceAccounts(ns).Create(c.ctx, &corev1.ServiceAccount{ObjectMeta: meta(name), AutomountServiceAccountToken: automount}, metav1.CreateOptions{}))
	}
	// What the containers find is tried on real ones in test/script.
	conform(t, "[sig-auth] ServiceAccounts should allow opting out of API token automount [Conformance]", func(c *cluster) {
		wishes := map[string]*bool{"default": nil, "mount": new(true), "nomount": new(false)}
		for name, wish := range wishes {
			account(c, "account-"+name, wish)
		}
		for accountName, ofAccount := range wishes {
			for podName, ofPod := range wishes {
				p := &corev1.Pod{ObjectMeta: meta(accountName + "-" + podName), Spec: template("x", "v1").Spec}
				p.Spec.ServiceAccountName, p.Spec.AutomountServiceAccountToken = "account-"+accountName, ofPod
				p = must(c.CoreV1().Pods(ns).Create(c.ctx, p, metav1.CreateOptions{}))
				mounted := slices.ContainsFunc(p.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
					return m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount"
				})
				want := ofPod != nil && *ofPod || ofPod == nil && (ofAccount == nil || *ofAccount)
				c.want(mounted == want && (len(p.Spec.Volumes) == 1) == want, "account %s, pod %s: mounted %t", accountName, podName, mounted)
			}
		}
	})
	conform(t, "[sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview [Conformance]", func(c *cluster) {
		a := account(c, "e2e", nil)
		request := must(c.CoreV1().ServiceAccounts(ns).CreateToken(c.ctx, "e2e", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))
		c.want(request.Status.Token != "" && !request.Status.ExpirationTimestamp.IsZero(), "%+v", request.Status)
		review := must(c.AuthenticationV1().TokenReviews().Create(c.ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: request.Status.Token}}, metav1.CreateOptions{}))
		u := review.Status.User
		c.want(review.Status.Authenticated && review.Status.Error == "" && u.Username == "system:serviceaccount:"+ns+":e2e" && u.UID == string(a.UID), "%+v", review.Status)
		c.want(slices.Contains(u.Groups, "system:serviceaccounts:"+ns), "groups %v", u.Groups)
	})
	conform(t, "[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]", func(c *cluster) {
		const name = "kube-root-ca.crt"
		var made string
		right := func(in string) func() bool {
			return func() bool {
				m, err := c.CoreV1().ConfigMaps(in).Get(c.ctx, name, metav1.GetOptions{})
				if err != nil || len(m.Data) != 1 || m.Data["ca.crt"] == "" {
					return false
				}
				made = m.Data["ca.crt"]
				return true
			}
		}
		must(c.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "another"}}, metav1.CreateOptions{}))
		for _, in := range []string{ns, "another"} {
			c.eventually("it to be created", right(in))
		}
		first := made
		c.ok(c.CoreV1().ConfigMaps(ns).Delete(c.ctx, name, metav1.DeleteOptions{}))
		c.eventually("it to be created again", right(ns))
		m := must(c.CoreV1().ConfigMaps(ns).Get(c.ctx, name, metav1.GetOptions{}))
		m.Data = map[string]string{"": ""}
		_, err := c.CoreV1().ConfigMaps(ns).Update(c.ctx, m, metav1.UpdateOptions{})
		c.want(apierrors.IsInvalid(err), "an empty key: %v", err)
		m.Data = map[string]string{"ca.crt": "x", "more": "y"}
		must(c.CoreV1().ConfigMaps(ns).Update(c.ctx, m, metav1.UpdateOptions{}))
		c.eventually("it to be put right", func() bool { return right(ns)() && made == first })
	})
	conform(t, "[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount [Conformance]", func(c *cluster) {
		accounts, mine := c.CoreV1().ServiceAccounts(ns), metav1.ListOptions{LabelSelector: "test-serviceaccount-static=true"}
		w := must(accounts.Watch(c.ctx, mine))
		defer w.Stop()
		next := func(want watch.EventType) *corev1.ServiceAccount {
			c.settle(0)
			select {
			case e := <-w.ResultChan():
				c.want(e.Type == want, "%s, want %s", e.Type, want)
				return e.Object.(*corev1.ServiceAccount)
			default:
				c.Fatalf("no event, want %s", want)
				return nil
			}
		}
		must(accounts.Create(c.ctx, &corev1.ServiceAccount{ObjectMeta: meta("test", "test-serviceaccount-static", "true")}, metav1.CreateOptions{}))
		c.want(next(watch.Added).Labels["test-serviceaccount-static"] == "true", "the label is not in the event")
		patched := must(accounts.Patch(c.ctx, "test", types.StrategicMergePatchType, []byte(`{"automountServiceAccountToken":false}`), metav1.PatchOptions{}))
		c.want(patched.AutomountServiceAccountToken != nil && !*patched.AutomountServiceAccountToken, "%v", patched)
		next(watch.Modified)
		l := must(c.CoreV1().ServiceAccounts("").List(c.ctx, mine))
		c.want(len(l.Items) == 1 && l.Items[0].Name == "test" && !*l.Items[0].AutomountServiceAccountToken, "%v", l.Items)
		c.ok(accounts.DeleteCollection(c.ctx, metav1.DeleteOptions{}, mine))
		next(watch.Deleted)
	})
	conform(t, "[sig-auth] ServiceAccounts should update a ServiceAccount [Conformance]", func(c *cluster) {
		a := account(c, "e2e", new(false))
		a.AutomountServiceAccountToken = new(true)
		a = must(c.CoreV1().ServiceAccounts(ns).Update(c.ctx, a, metav1.UpdateOptions{}))
		c.want(*a.AutomountServiceAccountToken, "%v", a)
		a = must(c.CoreV1().ServiceAccounts(ns).Get(c.ctx, "e2e", metav1.GetOptions{}))
		c.want(*a.AutomountServiceAccountToken, "%v", a)
	})
}

func TestServiceAccountIssuer(t *testing.T) {
	// The same documents are read with the token of a real pod in
	// test/script/testdata/workloads.txtar.
	conform(t, "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer [Conformance]", func(c *cluster) {
		const discovery = "system:service-account-issuer-discovery"
		for _, r := range authz.BootstrapClusterRoles() {
			if r.Name == discovery {
				must(c.RbacV1().ClusterRoles().Create(c.ctx, r, metav1.CreateOptions{}))
			}
		}
		for _, b := range authz.BootstrapClusterRoleBindings() {
			if b.Name == discovery {
				must(c.RbacV1().ClusterRoleBindings().Create(c.ctx, b, metav1.CreateOptions{}))
			}
		}
		c.settle(0)
		p := must(c.CoreV1().Pods(ns).Create(c.ctx, &corev1.Pod{ObjectMeta: meta("validator"), Spec: template("validator", "v1").Spec}, metav1.CreateOptions{}))
		request := must(c.CoreV1().ServiceAccounts(ns).CreateToken(c.ctx, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{"oidc-discovery-test"}, BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID},
		}}, metav1.CreateOptions{}))
		own := must(c.CoreV1().ServiceAccounts(ns).CreateToken(c.ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))
		config := rest.CopyConfig(c.config)
		config.BearerToken = own.Status.Token
		as := must(kubernetes.NewForConfig(config)).CoreV1().RESTClient()
		var issuer struct {
			Issuer string   `json:"issuer"`
			Keys   string   `json:"jwks_uri"`
			Signed []string `json:"id_token_signing_alg_values_supported"`
		}
		c.ok(json.Unmarshal(must(as.Get().AbsPath("/.well-known/openid-configuration").DoRaw(c.ctx)), &issuer))
		where := must(url.Parse(issuer.Keys))
		var keys jose.JSONWebKeySet
		c.ok(json.Unmarshal(must(as.Get().AbsPath(where.Path).DoRaw(c.ctx)), &keys))
		var algorithms []jose.SignatureAlgorithm
		for _, a := range issuer.Signed {
			algorithms = append(algorithms, jose.SignatureAlgorithm(a))
		}
		token := must(jwt.ParseSigned(request.Status.Token, algorithms))
		signers := keys.Key(token.Headers[0].KeyID)
		c.want(len(signers) == 1, "key %s is not published: %v", token.Headers[0].KeyID, keys)
		var claims jwt.Claims
		c.ok(token.Claims(signers[0].Key, &claims))
		c.ok(claims.Validate(jwt.Expected{Issuer: issuer.Issuer, AnyAudience: jwt.Audience{"oidc-discovery-test"}, Subject: "system:serviceaccount:" + ns + ":default", Time: time.Now()}))
		// The path is not for everybody.
		config.BearerToken, config.Impersonate.UserName = "", "stranger"
		_, err := must(kubernetes.NewForConfig(config)).CoreV1().RESTClient().Get().AbsPath(where.Path).DoRaw(c.ctx)
		c.want(apierrors.IsForbidden(err), "%v", err)
	})
}

func TestSubjectReview(t *testing.T) {
	conform(t, "[sig-auth] SubjectReview should support SubjectReview API operations [Conformance]", func(c *cluster) {
		must(c.CoreV1().ServiceAccounts(ns).Create(c.ctx, &corev1.ServiceAccount{ObjectMeta: meta("e2e")}, metav1.CreateOptions{}))
		name := "system:serviceaccount:" + ns + ":e2e"
		config := rest.CopyConfig(c.config)
		config.Impersonate = rest.ImpersonationConfig{UserName: name}
		as := must(kubernetes.NewForConfig(config))
		// agrees holds both reviews to what the account meets.
		agrees := func(allowed bool, namespace, verb string) {
			c.Helper()
			c.settle(0)
			var err error
			if verb == "list" {
				_, err = as.CoreV1().ConfigMaps(namespace).List(c.ctx, metav1.ListOptions{})
			} else {
				_, err = as.CoreV1().ConfigMaps(namespace).Create(c.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "m-"}}, metav1.CreateOptions{})
			}
			c.want(allowed && err == nil || !allowed && apierrors.IsForbidden(err), "%s in %s: %v", verb, namespace, err)
			if err != nil {
				c.want(strings.Contains(err.Error(), fmt.Sprintf("User %q cannot %s resource", name, verb)), "%v", err)
			}
			spec := authorizationv1.SubjectAccessReviewSpec{User: name, ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Version: "v1", Resource: "configmaps"}}
			r := must(c.AuthorizationV1().SubjectAccessReviews().Create(c.ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{}))
			c.want(r.Status.Allowed == allowed, "SubjectAccessReview of %s in %s: %+v", verb, namespace, r.Status)
			l := must(c.AuthorizationV1().LocalSubjectAccessReviews(namespace).Create(c.ctx, &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: spec}, metav1.CreateOptions{}))
			c.want(l.Status.Allowed == allowed, "LocalSubjectAccessReview of %s in %s: %+v", verb, namespace, l.Status)
		}
		agrees(false, ns, "list")
		agrees(false, ns, "create")
		must(c.RbacV1().Roles(ns).Create(c.ctx, &rbacv1.Role{ObjectMeta: meta("reader"), Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}}}, metav1.CreateOptions{}))
		must(c.RbacV1().RoleBindings(ns).Create(c.ctx, &rbacv1.RoleBinding{
			ObjectMeta: meta("reader"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: "e2e"}},
		}, metav1.CreateOptions{}))
		agrees(true, ns, "list")
		agrees(false, ns, "create")
		agrees(false, "default", "list")
	})
}
