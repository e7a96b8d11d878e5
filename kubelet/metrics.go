package kubelet

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/kubelet/resource"
	"sagong/runtime"
	"sagong/runtime/image"
)

// metrics of a node agent, under upstream's names. What can be read when somebody
// asks is not kept: a pod costs nothing here.
type metrics struct {
	operations, failures *prometheus.CounterVec
	took, work, mounts   *prometheus.HistogramVec
	start                prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	to, operation := promauto.With(r), []string{"operation_type"}
	return &metrics{
		operations: to.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_runtime_operations_total", Help: "Cumulative number of runtime operations by operation type."}, operation),
		failures:   to.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_runtime_operations_errors_total", Help: "Cumulative number of runtime operation errors by operation type."}, operation),
		took: to.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_runtime_operations_duration_seconds", Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 14),
			Help: "Duration in seconds of runtime operations. Broken down by operation type."}, operation),
		work: to.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_pod_worker_duration_seconds", Buckets: prometheus.DefBuckets,
			Help: "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or kill"}, operation),
		mounts: to.NewHistogramVec(prometheus.HistogramOpts{Name: "storage_operation_duration_seconds", Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600},
			Help: "Storage operation duration"}, []string{"volume_plugin", "operation_name", "status", "migrated"}),
		start: to.NewHistogram(prometheus.HistogramOpts{Name: "kubelet_pod_start_duration_seconds",
			Buckets: []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600},
			Help:    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run"}),
	}
}

// workOf is upstream's name of the kind of work that an action is.
func workOf(k pod.ActionKind) string {
	switch k {
	case pod.SetUp, pod.Start:
		return "create"
	case pod.Resize:
		return "update"
	}
	return "kill"
}

// worked measures an action.
func (m *metrics) worked(k pod.ActionKind, f func()) func() {
	return func() {
		begun := time.Now()
		f()
		m.work.WithLabelValues(workOf(k)).Observe(time.Since(begun).Seconds())
	}
}

// operated measures an operation of the runtime, by its name in CRI.
func (m *metrics) operated(name string, begun time.Time, err error) {
	m.operations.WithLabelValues(name).Inc()
	m.took.WithLabelValues(name).Observe(time.Since(begun).Seconds())
	if err != nil && !errors.Is(err, context.Canceled) {
		m.failures.WithLabelValues(name).Inc()
	}
}

// mounted is told of a volume that was mounted for a pod.
func (m *metrics) mounted(v *corev1.Volume, took time.Duration, err error) {
	status := "success"
	if err != nil {
		status = "fail-unknown"
	}
	m.mounts.WithLabelValues(pluginOf(v), "volume_mount", status, "false").Observe(took.Seconds())
}

// pluginOf is upstream's name of what mounts a volume.
func pluginOf(v *corev1.Volume) string {
	name := "csi"
	switch {
	case v.ConfigMap != nil:
		name = "configmap"
	case v.DownwardAPI != nil:
		name = "downward-api"
	case v.EmptyDir != nil:
		name = "empty-dir"
	case v.HostPath != nil:
		name = "host-path"
	case v.Image != nil:
		name = "image"
	case v.NFS != nil:
		name = "nfs"
	case v.Projected != nil:
		name = "projected"
	case v.Secret != nil:
		name = "secret"
	}
	return "kubernetes.io/" + name
}

// measured is a runtime whose operations are.
type measured struct {
	runtime.Runtime
	m *metrics
}

func (r measured) CreateSandbox(ctx context.Context, s runtime.Sandbox) error {
	begun := time.Now()
	err := r.Runtime.CreateSandbox(ctx, s)
	r.m.operated("run_podsandbox", begun, err)
	return err
}

func (r measured) RemoveSandbox(ctx context.Context, uid string) error {
	begun := time.Now()
	err := r.Runtime.RemoveSandbox(ctx, uid)
	r.m.operated("remove_podsandbox", begun, err)
	return err
}

func (r measured) CreateContainer(ctx context.Context, c runtime.Container) error {
	begun := time.Now()
	err := r.Runtime.CreateContainer(ctx, c)
	r.m.operated("create_container", begun, err)
	return err
}

func (r measured) StartContainer(ctx context.Context, id string) (runtime.Started, error) {
	begun := time.Now()
	s, err := r.Runtime.StartContainer(ctx, id)
	r.m.operated("start_container", begun, err)
	return s, err
}

func (r measured) StopContainer(ctx context.Context, id string, stop runtime.Stop) error {
	begun := time.Now()
	err := r.Runtime.StopContainer(ctx, id, stop)
	r.m.operated("stop_container", begun, err)
	return err
}

func (r measured) RemoveContainer(ctx context.Context, id string) error {
	begun := time.Now()
	err := r.Runtime.RemoveContainer(ctx, id)
	r.m.operated("remove_container", begun, err)
	return err
}

func (r measured) UpdateResources(ctx context.Context, id string, res runtime.Resources) error {
	begun := time.Now()
	err := r.Runtime.UpdateResources(ctx, id, res)
	r.m.operated("update_container", begun, err)
	return err
}

func (r measured) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	begun := time.Now()
	code, err := r.Runtime.Exec(ctx, id, o)
	r.m.operated("exec_sync", begun, err)
	return code, err
}

// measuredImages are images whose pulls are measured.
type measuredImages struct {
	ImageStore
	m *metrics
}

func (s measuredImages) Pull(ctx context.Context, ref string, o image.PullOptions) (*image.Image, error) {
	begun := time.Now()
	img, err := s.ImageStore.Pull(ctx, ref, o)
	s.m.operated("pull_image", begun, err)
	return img, err
}

var (
	nodeName          = prometheus.NewDesc("kubelet_node_name", "The node's name. The count is always 1.", []string{"node"}, nil)
	runningPods       = prometheus.NewDesc("kubelet_running_pods", "Number of pods that have a running pod sandbox", nil, nil)
	runningContainers = prometheus.NewDesc("kubelet_running_containers", "Number of currently running containers", []string{"container_state"}, nil)
	totalVolumes      = prometheus.NewDesc("volume_manager_total_volumes", "Number of volumes in Volume Manager", []string{"plugin_name", "state"}, nil)

	claimLabels     = []string{"namespace", "persistentvolumeclaim"}
	volumeCapacity  = prometheus.NewDesc("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", claimLabels, nil)
	volumeAvailable = prometheus.NewDesc("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", claimLabels, nil)
	volumeUsed      = prometheus.NewDesc("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", claimLabels, nil)
	volumeInodes    = prometheus.NewDesc("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", claimLabels, nil)
	volumeFree      = prometheus.NewDesc("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", claimLabels, nil)
	volumeTaken     = prometheus.NewDesc("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", claimLabels, nil)
)

// collect reads what is measured when somebody asks.
func (a *Agent) collect(ch chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	set(nodeName, 1, a.cfg.NodeName)
	a.mu.Lock()
	entries := make([]*entry, 0, len(a.entries))
	for _, e := range a.entries {
		entries = append(entries, e)
	}
	a.mu.Unlock()
	running, containers := 0, map[string]int{"running": 0}
	volumes, claims := map[[2]string]int{}, map[[2]string]string{}
	for _, e := range entries {
		p := e.current()
		if p.Status.Phase == corev1.PodRunning {
			running++
		}
		for i := range p.Status.ContainerStatuses {
			switch s := &p.Status.ContainerStatuses[i].State; {
			case s.Running != nil:
				containers["running"]++
			case s.Terminated != nil:
				containers["exited"]++
			}
		}
		e.mu.Lock()
		paths := e.paths
		e.mu.Unlock()
		for i := range p.Spec.Volumes {
			v := &p.Spec.Volumes[i]
			plugin := pluginOf(v)
			volumes[[2]string{plugin, "desired_state_of_world"}]++
			path, mounted := paths[v.Name]
			if !mounted {
				continue
			}
			volumes[[2]string{plugin, "actual_state_of_world"}]++
			switch {
			case v.PersistentVolumeClaim != nil:
				claims[[2]string{p.Namespace, v.PersistentVolumeClaim.ClaimName}] = path
			case v.Ephemeral != nil:
				claims[[2]string{p.Namespace, p.Name + "-" + v.Name}] = path
			}
		}
	}
	set(runningPods, float64(running))
	for state, n := range containers {
		set(runningContainers, float64(n), state)
	}
	for k, n := range volumes {
		set(totalVolumes, float64(n), k[0], k[1])
	}
	for claim, path := range claims {
		d, err := resource.ReadDisk(path)
		if err != nil {
			continue // it went meanwhile
		}
		for desc, n := range map[*prometheus.Desc]int64{
			volumeCapacity: d.Total, volumeAvailable: d.Available, volumeUsed: d.Total - d.Free,
			volumeInodes: d.Inodes, volumeFree: d.InodesFree, volumeTaken: d.Inodes - d.InodesFree,
		} {
			set(desc, float64(n), claim[0], claim[1])
		}
	}
}
