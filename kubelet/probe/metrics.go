package probe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// results of a probe, with the names that metrics give them.
type results int

const (
	successful results = iota
	failed
	unknown
	resultKinds
)

var resultNames = [resultKinds]string{"successful", "failed", "unknown"}

// tally is what is counted of one probe of one container: a hundred thousand of
// them must cost little, so it becomes a metric only when somebody asks.
type tally struct {
	results [resultKinds]uint32
	within  [len(bounds) + 1]uint32 // by the first bound that a time is within
	total   time.Duration
}

// bounds of the times that probes take: Prometheus' own, in seconds.
var bounds = [...]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func (t *tally) add(r results, took time.Duration) {
	t.results[r]++
	t.total += took
	i := 0
	for i < len(bounds) && took.Seconds() > bounds[i] {
		i++
	}
	t.within[i]++
}

var (
	probeTotal = prometheus.NewDesc("prober_probe_total", "Cumulative number of a liveness, readiness or startup probe for a container by result.",
		[]string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}, nil)
	probeTook = prometheus.NewDesc("prober_probe_duration_seconds", "Duration in seconds for a probe response.",
		[]string{"probe_type", "container", "pod", "namespace"}, nil)
)

// Collect says how the probes of the containers under probes went, since each was
// started.
func (m *Manager) Collect(ch chan<- prometheus.Metric) {
	type one struct {
		tally
		kind                          Kind
		container, pod, namespace, id string
	}
	var all []one
	m.mu.Lock()
	for _, w := range m.targets {
		for k, j := range w.probes {
			if j != nil {
				all = append(all, one{j.tally, Kind(k), w.Member.Name, w.Pod.Name, w.Pod.Namespace, string(w.Pod.UID)})
			}
		}
	}
	m.mu.Unlock()
	for _, p := range all {
		count := uint64(0)
		for r, n := range p.results {
			if count += uint64(n); n > 0 {
				ch <- prometheus.MustNewConstMetric(probeTotal, prometheus.CounterValue, float64(n), p.kind.String(), resultNames[r], p.container, p.pod, p.namespace, p.id)
			}
		}
		if count == 0 {
			continue
		}
		buckets, below := make(map[float64]uint64, len(bounds)), uint64(0)
		for i, b := range bounds {
			below += uint64(p.within[i])
			buckets[b] = below
		}
		ch <- prometheus.MustNewConstHistogram(probeTook, count, p.total.Seconds(), buckets, p.kind.String(), p.container, p.pod, p.namespace)
	}
}
