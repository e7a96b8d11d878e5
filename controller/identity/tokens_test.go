package identity_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller/identity"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

var quiet = slog.New(slog.DiscardHandler)

// run starts controllers over a cluster, on virtual time, and calls f.
func run(t *testing.T, objs []object.Object, make func(c client.Client, h *reconcile.Hub) ([]reconcile.Controller, []*reconcile.View[*corev1.Secret]), f func(t *testing.T, c *fake.Client)) {
	synctest.Test(t, func(t *testing.T) {
		c := fake.New(object.NewScheme(kinds.All()...), objs...)
		h := reconcile.NewHub(c, quiet)
		list, views := make(c, h)
		e := reconcile.NewEngine(c, quiet, nil)
		if err := e.Add(list...); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = h.Run(ctx) })
		for _, v := range views {
			wg.Go(func() { _ = v.Run(ctx) })
		}
		wg.Go(func() { _ = e.Run(ctx) })
		synctest.Wait()
		f(t, c)
		cancel()
		wg.Wait()
		c.Close()
	})
}

// conformance: [sig-auth] ServiceAccounts (tokens in Secrets are filled, and end
// with their account)
func TestAccountTokens(t *testing.T) {
	secret := func(name, account string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: account}}, Type: corev1.SecretTypeServiceAccountToken,
		}
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bot"}}
	other := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "plain"}}
	run(t, []object.Object{sa, secret("early", "bot"), secret("orphan", "nobody"), other}, func(c client.Client, h *reconcile.Hub) ([]reconcile.Controller, []*reconcile.View[*corev1.Secret]) {
		v := identity.SecretsOfType(c, quiet, corev1.SecretTypeServiceAccountToken)
		return []reconcile.Controller{identity.NewAccountTokens(h, v, []byte("authority"), func(sa *corev1.ServiceAccount, name string) (string, error) {
			return "token of " + sa.Name + " in " + name, nil
		})}, []*reconcile.View[*corev1.Secret]{v}
	}, func(t *testing.T, c *fake.Client) {
		if _, err := client.Create(t.Context(), c, secret("late", "bot")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		have, err := client.Get[*corev1.ServiceAccount](t.Context(), c, "ns", "bot")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"early", "late"} {
			s, err := client.Get[*corev1.Secret](t.Context(), c, "ns", name)
			if err != nil || string(s.Data["token"]) != "token of bot in "+name || string(s.Data["ca.crt"]) != "authority" || string(s.Data["namespace"]) != "ns" || s.Annotations[corev1.ServiceAccountUIDKey] != string(have.UID) {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		}
		if _, err := client.Get[*corev1.Secret](t.Context(), c, "ns", "orphan"); !apierrors.IsNotFound(err) {
			t.Errorf("of an account that is not there: %v", err)
		}
		if err := client.Delete[*corev1.ServiceAccount](t.Context(), c, "ns", "bot", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, name := range []string{"early", "late"} {
			if _, err := client.Get[*corev1.Secret](t.Context(), c, "ns", name); !apierrors.IsNotFound(err) {
				t.Errorf("%s of an account that is gone: %v", name, err)
			}
		}
		if _, err := client.Get[*corev1.Secret](t.Context(), c, "ns", "plain"); err != nil {
			t.Error(err)
		}
	})
}

func TestBootstrapTokens(t *testing.T) {
	token := func(id string, life time.Duration, signing string) *corev1.Secret {
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken,
			Data: map[string][]byte{"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte(signing)},
		}
		if life != 0 {
			// Virtual time begins here.
			s.Data["expiration"] = []byte(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(life).Format(time.RFC3339))
		}
		return s
	}
	info := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: identity.ClusterInfo}, Data: map[string]string{"kubeconfig": "here it is", "jws-kubeconfig-gone00": "x"}}
	run(t, []object.Object{info, token("hourly", time.Hour, "true"), token("always", 0, "true"), token("silent", 0, "false"), token("over00", -time.Hour, "true")}, func(c client.Client, h *reconcile.Hub) ([]reconcile.Controller, []*reconcile.View[*corev1.Secret]) {
		v := identity.SecretsOfType(c, quiet, corev1.SecretTypeBootstrapToken)
		return []reconcile.Controller{identity.NewTokenCleaner(v, time.Now), identity.NewBootstrapSigner(h, v, time.Now)}, []*reconcile.View[*corev1.Secret]{v}
	}, func(t *testing.T, c *fake.Client) {
		there := func(want string) {
			t.Helper()
			list, _, err := client.ListOf[*corev1.Secret](t.Context(), c, "kube-system", client.ListOptions{})
			var names []string
			for _, s := range list {
				names = append(names, strings.TrimPrefix(s.Name, "bootstrap-token-"))
			}
			if strings.Join(names, " ") != want || err != nil {
				t.Errorf("tokens %v, want %s, %v", names, want, err)
			}
		}
		signed := func(ids ...string) {
			t.Helper()
			m, err := client.Get[*corev1.ConfigMap](t.Context(), c, "kube-public", identity.ClusterInfo)
			if err != nil || len(m.Data) != 1+len(ids) {
				t.Errorf("%v, %v, want signatures of %v", m, err, ids)
				return
			}
			for _, id := range ids {
				header, signature, ok := strings.Cut(m.Data["jws-kubeconfig-"+id], "..")
				mac := hmac.New(sha256.New, []byte("0123456789abcdef"))
				mac.Write([]byte(header + "." + base64.RawURLEncoding.EncodeToString([]byte("here it is"))))
				plain, err := base64.RawURLEncoding.DecodeString(header)
				if !ok || err != nil || string(plain) != `{"alg":"HS256","kid":"`+id+`"}` || signature != base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) {
					t.Errorf("signature of %s: %s.%s", id, plain, signature)
				}
			}
		}
		there("always hourly silent")
		signed("always", "hourly")
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		there("always silent")
		signed("always")
	})
}
