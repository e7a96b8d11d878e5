package identity_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller/identity"
	"sagong/object"
	"sagong/reconcile"
)

// TestLegacyTokens lives through three years in virtual time, which begins on
// 2000-01-01.
func TestLegacyTokens(t *testing.T) {
	const used, invalid = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
	const year = 365 * 24 * time.Hour
	begin := metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	secret := func(name, account string, change ...func(*corev1.Secret)) *corev1.Secret {
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: account}, CreationTimestamp: begin},
			Type:       corev1.SecretTypeServiceAccountToken,
		}
		for _, f := range change {
			f(s)
		}
		return s
	}
	label := func(name, value string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.Labels = map[string]string{name: value} }
	}
	bot := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "bot"}}
	for _, name := range []string{"idle", "used", "odd", "mounted", "other"} {
		bot.Secrets = append(bot.Secrets, corev1.ObjectReference{Name: name})
	}
	objs := []object.Object{
		bot, secret("idle", "bot"), secret("used", "bot", label(used, "2000-06-01")), secret("odd", "bot", label(used, "long ago")),
		secret("mounted", "bot"), secret("own", "bot"),
		secret("other", "bot", func(s *corev1.Secret) { s.Annotations[corev1.ServiceAccountUIDKey] = "another" }),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: identity.TokenTracking}, Data: map[string]string{"since": "2000-01-01"}},
	}
	run(t, objs, func(c client.Client, h *reconcile.Hub) ([]reconcile.Controller, []*reconcile.View[*corev1.Secret]) {
		v := identity.SecretsOfType(c, quiet, corev1.SecretTypeServiceAccountToken)
		return []reconcile.Controller{identity.NewLegacyTokens(h, v, year, func(_ *corev1.Pod, f func(string, string)) {
			f("configmaps", "idle")
			f("secrets", "mounted")
		})}, []*reconcile.View[*corev1.Secret]{v}
	}, func(t *testing.T, c *fake.Client) {
		// at has a moment come and says what is marked and what is gone then.
		at := func(when string, marked map[string]string, deleted ...string) {
			t.Helper()
			moment, err := time.Parse(time.DateTime, when)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(moment))
			synctest.Wait()
			is := map[string]bool{}
			for _, name := range deleted {
				is[name] = true
			}
			for _, name := range []string{"idle", "used", "odd", "mounted", "other", "own"} {
				s, err := client.Get[*corev1.Secret](t.Context(), c, "ns", name)
				switch {
				case is[name] != apierrors.IsNotFound(err):
					t.Errorf("%s: %s: %v", when, name, err)
				case err == nil && s.Labels[invalid] != marked[name]:
					t.Errorf("%s: %s is invalid since %q, want %q", when, name, s.Labels[invalid], marked[name])
				}
			}
		}
		// 2000 has 366 days. The day on which tracking began counts for used.
		at("2000-12-31 23:59:59", nil)
		at("2001-01-01 00:00:01", map[string]string{"idle": "2001-01-01"})
		at("2001-06-01 23:59:59", map[string]string{"idle": "2001-01-01"})
		at("2001-06-02 00:00:00", map[string]string{"idle": "2001-01-01", "used": "2001-06-02"})

		// Somebody minds: the mark is taken away, and the token used.
		s, err := client.Get[*corev1.Secret](t.Context(), c, "ns", "used")
		if err != nil {
			t.Fatal(err)
		}
		s = s.DeepCopy()
		s.Labels = map[string]string{used: "2001-06-02"}
		if _, err := client.Update(t.Context(), c, s); err != nil {
			t.Fatal(err)
		}
		at("2002-01-01 23:59:59", map[string]string{"idle": "2001-01-01"})
		at("2002-01-02 00:00:00", nil, "idle")

		// The pod goes, and the token that it kept is no exception any more.
		if err := client.Delete[*corev1.Pod](t.Context(), c, "ns", "p", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		at("2002-01-04 00:00:00", map[string]string{"mounted": "2002-01-03"}, "idle")
		at("2003-12-31 00:00:00", map[string]string{}, "idle", "used", "mounted")
	})
}
