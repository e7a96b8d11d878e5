package usage

import (
	"testing"
	"time"

	"sagong/object"
)

const answer = `# HELP container_cpu_usage_seconds_total x
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 1.5 1000
container_memory_working_set_bytes{container="c",namespace="n",pod="p"} 2048 1000
container_start_time_seconds{container="c",namespace="n",pod="p"} 0.5
container_cpu_usage_seconds_total{pod="p", namespace="n", container="d\"}{"} 2e-3 2000
node_cpu_usage_seconds_total 12 3000
node_memory_working_set_bytes 4.5e+06 3000
pod_cpu_usage_seconds_total{namespace="n",pod="p"} 9 1000
container_cpu_usage_seconds_total{container="c",namespace="n",pod="q"} NaN
container_cpu_usage_seconds_total{container="c",namespace="n"} 1
container_cpu_usage_seconds_total{container="c
`

func TestParse(t *testing.T) {
	now := time.UnixMilli(9000)
	p := parse([]byte(answer), now)
	if p.node.cpu != 12 || p.node.memory != 4.5e6 || !p.node.at.Equal(time.UnixMilli(3000)) {
		t.Errorf("node %+v", p.node)
	}
	if len(p.pods) != 1 {
		t.Fatalf("%d pods", len(p.pods))
	}
	pod := *p.pods[object.Key{Namespace: "n", Name: "p"}]
	if c := pod["c"]; c == nil || c.cpu != 1.5 || c.memory != 2048 || !c.start.Equal(time.UnixMilli(500)) || !c.at.Equal(time.UnixMilli(1000)) {
		t.Errorf("c %+v", c)
	}
	if d := pod[`d"}{`]; d == nil || d.cpu != 0.002 || !d.start.IsZero() {
		t.Errorf("d %+v", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(answer))
	f.Add([]byte(`container_cpu_usage_seconds_total{container="\"",namespace=""} 1 1`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := parse(b, time.Time{})
		for k, pod := range p.pods {
			if k.Namespace == "" || k.Name == "" || len(*pod) == 0 {
				t.Fatalf("%q", k)
			}
		}
	})
}
