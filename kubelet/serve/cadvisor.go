package serve

import (
	"bufio"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/runtime"
)

// PodUsage is what a pod that runs uses.
type PodUsage struct {
	Pod *corev1.Pod
	runtime.PodStats
	// Links are the network interfaces of the pod's own network.
	Links []Link
}

// Link is what has passed a network interface since it was made.
type Link struct {
	Name           string
	Received, Sent Traffic
}

// Traffic counts bytes and packets, those with errors and those dropped.
type Traffic struct{ Bytes, Packets, Errors, Dropped uint64 }

// cadvisor answers under the names by which cAdvisor, which is part of upstream's
// kubelet, has made them known to dashboards: https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md
func (h *Handler) cadvisor(w http.ResponseWriter, r *http.Request) {
	usage, err := h.Node.Usage(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	out := samples{w: bufio.NewWriterSize(w, 64<<10)}
	defer func() { _ = out.w.Flush() }() // an error: the reader went away

	// Those of a pod as a whole have no container and no image.
	whole := func(u *PodUsage, more string) []byte {
		return out.identity("", "/pod"+u.UID, "", "", u.Pod, more)
	}
	one := func(u *PodUsage, c *runtime.Stats, more string) []byte {
		return out.identity(c.Name, "/pod"+u.UID+"/"+c.ID, imageOf(u.Pod, c.Name), c.ID, u.Pod, more)
	}
	family := func(name, kind, help, more string, value func(*runtime.Stats) float64) {
		out.family(name, kind, help)
		for i := range usage {
			u := &usage[i]
			at := u.At.UnixMilli()
			out.at(whole(u, more), value(&runtime.Stats{At: u.At, Stats: u.PodStats.Pod}), at)
			for j := range u.Containers {
				c := &u.Containers[j]
				out.at(one(u, c, more), value(c), c.At.UnixMilli())
			}
		}
	}
	seconds := func(nanos uint64) float64 { return float64(nanos) / float64(time.Second) }
	const cpu = `,cpu="total"`
	family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", cpu, func(s *runtime.Stats) float64 { return seconds(s.CPU.UsageNanos) })
	family("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", "", func(s *runtime.Stats) float64 { return seconds(s.CPU.UserNanos) })
	family("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", "", func(s *runtime.Stats) float64 { return seconds(s.CPU.SystemNanos) })
	family("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", "", func(s *runtime.Stats) float64 { return float64(s.CPU.Periods) })
	family("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", "", func(s *runtime.Stats) float64 { return float64(s.CPU.ThrottledPeriods) })
	family("container_cpu_cfs_throttled_seconds_total", "counter", "Total time duration the container has been throttled.", "", func(s *runtime.Stats) float64 { return seconds(s.CPU.ThrottledNanos) })
	family("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed", "", func(s *runtime.Stats) float64 { return float64(s.Memory.Usage) })
	family("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", "", func(s *runtime.Stats) float64 { return float64(s.Memory.WorkingSet) })
	family("container_memory_rss", "gauge", "Size of RSS in bytes.", "", func(s *runtime.Stats) float64 { return float64(s.Memory.RSS) })
	family("container_memory_cache", "gauge", "Number of bytes of page cache memory.", "", func(s *runtime.Stats) float64 { return float64(s.Memory.Cache) })
	family("container_memory_swap", "gauge", "Container swap usage in bytes.", "", func(s *runtime.Stats) float64 { return float64(s.Memory.Swap) })
	family("container_oom_events_total", "counter", "Count of out of memory events observed for the container", "", func(s *runtime.Stats) float64 { return float64(s.Memory.OOMKills) })
	family("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", "", func(s *runtime.Stats) float64 { return float64(s.Memory.Limit) })
	family("container_processes", "gauge", "Number of processes running inside the container.", "", func(s *runtime.Stats) float64 { return float64(s.Pids) })
	const device = `,device=""`
	family("container_fs_reads_total", "counter", "Cumulative count of reads completed", device, func(s *runtime.Stats) float64 { return float64(s.IO.Reads) })
	family("container_fs_writes_total", "counter", "Cumulative count of writes completed", device, func(s *runtime.Stats) float64 { return float64(s.IO.Writes) })
	family("container_fs_reads_bytes_total", "counter", "Cumulative count of bytes read", device, func(s *runtime.Stats) float64 { return float64(s.IO.ReadBytes) })
	family("container_fs_writes_bytes_total", "counter", "Cumulative count of bytes written", device, func(s *runtime.Stats) float64 { return float64(s.IO.WriteBytes) })

	out.family("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.")
	for i := range usage {
		for j := range usage[i].Containers {
			c := &usage[i].Containers[j]
			if at := startOf(usage[i].Pod, c.Name); !at.IsZero() {
				out.sample(one(&usage[i], c, ""), seconds(uint64(at.UnixNano())), nil)
			}
		}
	}
	for _, way := range []struct {
		name, verb string
		of         func(*Link) *Traffic
	}{{"receive", "received", func(l *Link) *Traffic { return &l.Received }}, {"transmit", "transmitted", func(l *Link) *Traffic { return &l.Sent }}} {
		for _, what := range []struct {
			name, help string
			of         func(*Traffic) uint64
		}{
			{"bytes", "Cumulative count of bytes " + way.verb, func(t *Traffic) uint64 { return t.Bytes }},
			{"packets", "Cumulative count of packets " + way.verb, func(t *Traffic) uint64 { return t.Packets }},
			{"packets_dropped", "Cumulative count of packets dropped while they were " + way.verb, func(t *Traffic) uint64 { return t.Dropped }},
			{"errors", "Cumulative count of errors encountered while packets were " + way.verb, func(t *Traffic) uint64 { return t.Errors }},
		} {
			out.family("container_network_"+way.name+"_"+what.name+"_total", "counter", what.help)
			for i := range usage {
				u := &usage[i]
				for j := range u.Links {
					l := &u.Links[j]
					out.at(whole(u, ",interface="+strconv.Quote(l.Name)), float64(what.of(way.of(l))), u.At.UnixMilli())
				}
			}
		}
	}
}

// identity are cAdvisor's labels, valid until the next call.
func (s *samples) identity(container, id, image, name string, p *corev1.Pod, more string) []byte {
	b := append(s.text[:0], "{container="...)
	for _, l := range [...]struct{ before, value string }{{"", container}, {",id=", id}, {",image=", image}, {",name=", name}, {",namespace=", p.Namespace}, {",pod=", p.Name}} {
		b = strconv.AppendQuote(append(b, l.before...), l.value)
	}
	s.text = append(append(b, more...), '}')
	return s.text
}

func imageOf(p *corev1.Pod, container string) string {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == container {
				return list[i].Image
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if c := &p.Spec.EphemeralContainers[i]; c.Name == container {
			return c.Image
		}
	}
	return ""
}

// startOf is when a container that runs was started; zero for one that does not.
func startOf(p *corev1.Pod, container string) time.Time {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == container && list[i].State.Running != nil {
				return list[i].State.Running.StartedAt.Time
			}
		}
	}
	return time.Time{}
}
