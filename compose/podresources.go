package compose

import (
	"iter"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// podResources are what pods ask for and may use at most, as the scheduler counts
// it, measured when somebody reads them:
// https://kubernetes.io/docs/concepts/cluster-administration/system-metrics/#kube-scheduler-metrics
type podResources struct{ pods func() iter.Seq[*corev1.Pod] }

var (
	podResourceLabels  = []string{"namespace", "pod", "node", "scheduler", "priority", "resource", "unit"}
	podResourceRequest = prometheus.NewDesc("kube_pod_resource_request", "Resources requested by workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.", podResourceLabels, nil)
	podResourceLimit   = prometheus.NewDesc("kube_pod_resource_limit", "Resources limit for workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.", podResourceLabels, nil)
)

// handler serves them alone, as upstream's scheduler does: there are several for
// each pod.
func (p podResources) handler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(p)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Describe implements prometheus.Collector.
func (podResources) Describe(ch chan<- *prometheus.Desc) {
	ch <- podResourceRequest
	ch <- podResourceLimit
}

// Collect implements prometheus.Collector.
func (p podResources) Collect(ch chan<- prometheus.Metric) {
	for pod := range p.pods() {
		if pod.Spec.NodeName != "" && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed) {
			continue
		}
		priority := ""
		if pod.Spec.Priority != nil {
			priority = strconv.Itoa(int(*pod.Spec.Priority))
		}
		for d, list := range map[*prometheus.Desc]corev1.ResourceList{
			podResourceRequest: resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}),
			podResourceLimit:   resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{}),
		} {
			for name, q := range list {
				if !q.IsZero() {
					ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, q.AsApproximateFloat64(),
						pod.Namespace, pod.Name, pod.Spec.NodeName, pod.Spec.SchedulerName, priority, string(name), unitOf(name))
				}
			}
		}
	}
}

// unitOf is the unit in which a resource is measured, "" for those that others
// provide.
func unitOf(name corev1.ResourceName) string {
	switch {
	case name == corev1.ResourceCPU:
		return "cores"
	case name == corev1.ResourceMemory, name == corev1.ResourceStorage, name == corev1.ResourceEphemeralStorage, strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
		return "bytes"
	case strings.HasPrefix(string(name), corev1.ResourceAttachableVolumesPrefix):
		return "integer"
	}
	return ""
}
