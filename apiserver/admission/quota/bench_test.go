package quota_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/resource"
	"sagong/object"
)

// BenchmarkReserve is a pod judged by two quotas, reserved and given back.
func BenchmarkReserve(b *testing.B) {
	c := start(b)
	c.quota("q", list("pods", "100", "requests.cpu", "100", "limits.memory", "100Gi"))
	c.quota("r", list("count/pods", "100"))
	d := object.Of[*corev1.Pod](c.Scheme())
	p := pod("p", list("cpu", "1"), list("memory", "1Gi"))
	p.UID = "u"
	a := &resource.Attributes{Operation: resource.Create, Definition: d, Namespace: "ns", Name: "p", Object: p, User: &user.DefaultInfo{}}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.ledger.Validate(b.Context(), a); err != nil {
			b.Fatal(err)
		}
		c.ledger.AfterWrite(b.Context(), a, errFailed)
	}
}
