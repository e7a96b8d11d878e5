package proxy

import (
	"fmt"
	"runtime"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// BenchmarkMemory measures what the model of one Service of ten endpoints
// costs, without the objects, which others share.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		const n = 10_000
		plans := make([]plan, n)
		for i := range plans {
			s := newService(fmt.Sprintf("s%d", i), fmt.Sprintf("10.96.%d.%d", i/250, i%250))
			s.Spec.Ports = s.Spec.Ports[:1]
			var texts []string
			for e := range 10 {
				texts = append(texts, fmt.Sprintf("10.244.%d.%d", (i*10+e)/250%250, (i*10+e)%250))
			}
			plans[i] = planService("default/"+s.Name, s, []*discoveryv1.EndpointSlice{endpoints(s.Name, texts...)}, node{name: "n1"})
		}
		m := newModel(1, nil)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range plans {
			m.apply(fmt.Sprint("default/s", i), plans[i])
		}
		m.commit()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/Service")
		runtime.KeepAlive(m)
		runtime.KeepAlive(plans)
	}
}
