package dns

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkMemory measures what the names of one Service cost, without the
// objects, which others share.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		const n = 10_000
		var objects []*corev1.Service
		for i := range n {
			ip := fmt.Sprintf("10.96.%d.%d", i/250, i%250)
			objects = append(objects, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: fmt.Sprintf("s%d", i)}, Spec: corev1.ServiceSpec{
				ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
			}})
		}
		s := newServer(b, Config{Upstreams: []netip.AddrPort{}})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for _, o := range objects {
			s.SetService(o)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/Service")
		runtime.KeepAlive(s)
		runtime.KeepAlive(objects)
	}
}
