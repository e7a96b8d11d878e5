package admission_test

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The first pod of a namespace comes before its account: kubectl create
// namespace x && kubectl run.
func TestPodsAwaitTheDefaultAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.must(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "young"}})
		early := func(p *corev1.Pod) { p.Namespace = "young" }
		began := time.Now()
		c.refused(c, pod("p", early), `pods "p" is forbidden: error looking up service account young/default: serviceaccount "default" not found`)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %s for an account that does not come", waited)
		}
		c.refused(c, pod("p", early, func(p *corev1.Pod) { p.Spec.ServiceAccountName = "other" }), `serviceaccount "other" not found`)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("waited %s in all: nobody promised the other account", waited)
		}
		created := make(chan error, 1)
		go func() {
			p := pod("p", early)
			_, err := c.Create(c.Context(), c.Scheme().ByObject(p), p)
			created <- err
		}()
		synctest.Wait()
		c.must(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "young", Name: "default"}})
		if err := <-created; err != nil {
			t.Error(err)
		}
	})
}
