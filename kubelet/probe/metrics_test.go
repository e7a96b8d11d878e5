package probe

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		defer b.stop()
		b.took = 200 * time.Millisecond
		x := target("a", corev1.Container{LivenessProbe: command("live", func(p *corev1.Probe) { p.InitialDelaySeconds = 5 })})
		x.Pod.Namespace, x.Pod.Name = "ns", "p"
		b.m.Set("u", []Target{x})
		pass(6 * time.Second) // one success at 5 s
		b.set("live", 1)
		pass(20 * time.Second) // failures at 15 s and 25 s
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(prometheus.CollectorFunc(b.m.Collect))
		want := `
# HELP prober_probe_total Cumulative number of a liveness, readiness or startup probe for a container by result.
# TYPE prober_probe_total counter
prober_probe_total{container="c",namespace="ns",pod="p",pod_uid="u",probe_type="Liveness",result="failed"} 2
prober_probe_total{container="c",namespace="ns",pod="p",pod_uid="u",probe_type="Liveness",result="successful"} 1
# HELP prober_probe_duration_seconds Duration in seconds for a probe response.
# TYPE prober_probe_duration_seconds histogram
`
		for _, le := range []string{"0.005", "0.01", "0.025", "0.05", "0.1"} {
			want += `prober_probe_duration_seconds_bucket{container="c",namespace="ns",pod="p",probe_type="Liveness",le="` + le + `"} 0` + "\n"
		}
		for _, le := range []string{"0.25", "0.5", "1", "2.5", "5", "10", "+Inf"} {
			want += `prober_probe_duration_seconds_bucket{container="c",namespace="ns",pod="p",probe_type="Liveness",le="` + le + `"} 3` + "\n"
		}
		want += `prober_probe_duration_seconds_sum{container="c",namespace="ns",pod="p",probe_type="Liveness"} 0.6
prober_probe_duration_seconds_count{container="c",namespace="ns",pod="p",probe_type="Liveness"} 3
`
		x.Pod = x.Pod.DeepCopy()
		x.Pod.UID = "u"
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
		b.m.Set("u", nil)
		if n, err := testutil.GatherAndCount(registry); n != 0 || err != nil {
			t.Errorf("%d series of a container that is gone, %v", n, err)
		}
	})
}
