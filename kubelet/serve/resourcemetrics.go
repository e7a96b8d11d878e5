package serve

import (
	"bufio"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// resourceMetrics is what the API server reads to answer metrics.k8s.io, under
// the names by which metrics-server and Prometheus know it. It is written as it
// goes: a node may run thousands of containers.
func (h *Handler) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	s, err := h.Node.Summary(r.Context(), true)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	out := samples{w: bufio.NewWriterSize(w, 64<<10)}
	containers := func(each func(labels []byte, c *ContainerStats)) {
		for i := range s.Pods {
			p := &s.Pods[i]
			for j := range p.Containers {
				each(out.labels(p.Containers[j].Name, p.PodRef.Namespace, p.PodRef.Name), &p.Containers[j])
			}
		}
	}
	pods := func(each func(labels []byte, p *PodStats)) {
		for i := range s.Pods {
			each(out.labels("", s.Pods[i].PodRef.Namespace, s.Pods[i].PodRef.Name), &s.Pods[i])
		}
	}
	out.family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds")
	containers(func(l []byte, c *ContainerStats) { out.cpu(l, c.CPU) })
	out.family("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes")
	containers(func(l []byte, c *ContainerStats) { out.memory(l, c.Memory) })
	out.family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds")
	containers(func(l []byte, c *ContainerStats) {
		if !c.StartTime.IsZero() {
			out.sample(l, float64(c.StartTime.UnixNano())/float64(time.Second), nil)
		}
	})
	out.family("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds")
	out.cpu(nil, s.Node.CPU)
	out.family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes")
	out.memory(nil, s.Node.Memory)
	out.family("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds")
	pods(func(l []byte, p *PodStats) { out.cpu(l, p.CPU) })
	out.family("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes")
	pods(func(l []byte, p *PodStats) { out.memory(l, p.Memory) })
	out.family("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	out.sample(nil, 0, nil)
	_ = out.w.Flush() // the reader went away
}

// samples writes Prometheus' text format.
type samples struct {
	w    *bufio.Writer
	name string
	text []byte // the labels of one sample
	line []byte
}

func (s *samples) family(name, kind, help string) {
	s.name = name
	s.w.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// labels are valid until the next call.
func (s *samples) labels(container, namespace, pod string) []byte {
	b := append(s.text[:0], '{')
	if container != "" {
		b = strconv.AppendQuote(append(b, "container="...), container)
		b = append(b, ',')
	}
	b = strconv.AppendQuote(append(b, "namespace="...), namespace)
	b = strconv.AppendQuote(append(b, ",pod="...), pod)
	s.text = append(b, '}')
	return s.text
}

func (s *samples) cpu(labels []byte, c *CPUStats) {
	if c != nil && c.UsageCoreNanoSeconds != nil {
		s.sample(labels, float64(*c.UsageCoreNanoSeconds)/float64(time.Second), &c.Time)
	}
}

func (s *samples) memory(labels []byte, m *MemoryStats) {
	if m != nil && m.WorkingSetBytes != nil {
		s.sample(labels, float64(*m.WorkingSetBytes), &m.Time)
	}
}

func (s *samples) sample(labels []byte, value float64, at *metav1.Time) {
	millis := int64(0)
	if at != nil {
		millis = at.UnixMilli()
	}
	s.at(labels, value, millis)
}

// at writes a sample of a time in milliseconds; 0 is now.
func (s *samples) at(labels []byte, value float64, millis int64) {
	b := append(s.line[:0], s.name...)
	b = append(append(b, labels...), ' ')
	b = strconv.AppendFloat(b, value, 'g', -1, 64)
	if millis != 0 {
		b = strconv.AppendInt(append(b, ' '), millis, 10)
	}
	s.line = append(b, '\n')
	s.w.Write(s.line)
}
