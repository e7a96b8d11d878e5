package serve

import (
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Summary is what /stats/summary answers; the names are upstream's
// (k8s.io/kubelet/pkg/apis/stats/v1alpha1), as metrics-server and others read
// them.
type Summary struct {
	Node NodeStats  `json:"node"`
	Pods []PodStats `json:"pods"`
}

// NodeStats is what the machine uses.
type NodeStats struct {
	NodeName  string       `json:"nodeName"`
	StartTime metav1.Time  `json:"startTime"`
	CPU       *CPUStats    `json:"cpu,omitempty"`
	Memory    *MemoryStats `json:"memory,omitempty"`
	Fs        *FsStats     `json:"fs,omitempty"`
	Runtime   *struct {
		ImageFs *FsStats `json:"imageFs,omitempty"`
	} `json:"runtime,omitempty"`
	Rlimit *RlimitStats `json:"rlimit,omitempty"`
}

// PodReference names a pod.
type PodReference struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
}

// PodStats is what a pod uses.
type PodStats struct {
	PodRef           PodReference     `json:"podRef"`
	StartTime        metav1.Time      `json:"startTime"`
	Containers       []ContainerStats `json:"containers"`
	CPU              *CPUStats        `json:"cpu,omitempty"`
	Memory           *MemoryStats     `json:"memory,omitempty"`
	EphemeralStorage *FsStats         `json:"ephemeral-storage,omitempty"`
	ProcessStats     *ProcessStats    `json:"process_stats,omitempty"`
}

// ContainerStats is what a container uses.
type ContainerStats struct {
	Name      string       `json:"name"`
	StartTime metav1.Time  `json:"startTime"`
	CPU       *CPUStats    `json:"cpu,omitempty"`
	Memory    *MemoryStats `json:"memory,omitempty"`
	Rootfs    *FsStats     `json:"rootfs,omitempty"`
}

// CPUStats counts CPU time.
type CPUStats struct {
	Time                 metav1.Time `json:"time"`
	UsageNanoCores       *uint64     `json:"usageNanoCores,omitempty"`
	UsageCoreNanoSeconds *uint64     `json:"usageCoreNanoSeconds,omitempty"`
}

// MemoryStats is memory in bytes.
type MemoryStats struct {
	Time            metav1.Time `json:"time"`
	AvailableBytes  *uint64     `json:"availableBytes,omitempty"`
	UsageBytes      *uint64     `json:"usageBytes,omitempty"`
	WorkingSetBytes *uint64     `json:"workingSetBytes,omitempty"`
	RSSBytes        *uint64     `json:"rssBytes,omitempty"`
	PageFaults      *uint64     `json:"pageFaults,omitempty"`
	MajorPageFaults *uint64     `json:"majorPageFaults,omitempty"`
}

// FsStats is a file system.
type FsStats struct {
	Time           metav1.Time `json:"time"`
	AvailableBytes *uint64     `json:"availableBytes,omitempty"`
	CapacityBytes  *uint64     `json:"capacityBytes,omitempty"`
	UsedBytes      *uint64     `json:"usedBytes,omitempty"`
	InodesFree     *uint64     `json:"inodesFree,omitempty"`
	Inodes         *uint64     `json:"inodes,omitempty"`
	InodesUsed     *uint64     `json:"inodesUsed,omitempty"`
}

// RlimitStats is the machine's processes.
type RlimitStats struct {
	Time    metav1.Time `json:"time"`
	MaxPID  *int64      `json:"maxpid,omitempty"`
	CurProc *int64      `json:"curproc,omitempty"`
}

// ProcessStats is a pod's processes.
type ProcessStats struct {
	ProcessCount *uint64 `json:"process_count,omitempty"`
}

func (h *Handler) summary(w http.ResponseWriter, r *http.Request) {
	brief, _ := strconv.ParseBool(r.URL.Query().Get("only_cpu_and_memory"))
	s, err := h.Node.Summary(r.Context(), brief)
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, s)
}

// metrics of the agent itself.
func (h *Handler) metrics(w http.ResponseWriter, r *http.Request) {
	m := metrics{}
	running, containers := 0, map[string]int{}
	for _, p := range h.Node.Pods() {
		if p.Status.Phase == "Running" {
			running++
		}
		for _, c := range p.Status.ContainerStatuses {
			switch {
			case c.State.Running != nil:
				containers["running"]++
			case c.State.Terminated != nil:
				containers["exited"]++
			}
		}
	}
	m.add("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox", fmt.Sprintf("kubelet_running_pods %d", running))
	for state, n := range containers {
		m.add("kubelet_running_containers", "gauge", "Number of currently running containers", fmt.Sprintf("kubelet_running_containers{container_state=%q} %d", state, n))
	}
	m.write(w)
}

// metrics are lines in the text format, by name.
type metrics map[string]*family

type family struct {
	kind, help string
	lines      []string
}

func (m metrics) add(name, kind, help, line string) {
	f := m[name]
	if f == nil {
		f = &family{kind: kind, help: help}
		m[name] = f
	}
	f.lines = append(f.lines, line)
}

func (m metrics) write(w http.ResponseWriter) {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", n, m[n].help, n, m[n].kind)
		sort.Strings(m[n].lines)
		for _, l := range m[n].lines {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write([]byte(b.String()))
}
