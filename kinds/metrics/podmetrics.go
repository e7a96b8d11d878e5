package metrics

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sagong/object"
)

// PodMetrics defines metrics.k8s.io/v1beta1 PodMetrics.
func PodMetrics() *object.Definition {
	return object.Kind[*metricsv1beta1.PodMetrics]{
		Group: "metrics.k8s.io", Version: "v1beta1", Kind: "PodMetrics", Resource: "pods", Namespaced: true, Verbs: readOnly,
		New:     func() *metricsv1beta1.PodMetrics { return &metricsv1beta1.PodMetrics{} },
		NewList: func() runtime.Object { return &metricsv1beta1.PodMetricsList{} },
		Columns: columns(sum, func(m *metricsv1beta1.PodMetrics) metav1.Duration { return m.Window }),
	}.Definition()
}

// sum is what all containers of a pod use.
func sum(m *metricsv1beta1.PodMetrics) corev1.ResourceList {
	all := corev1.ResourceList{}
	for _, c := range m.Containers {
		for name, q := range c.Usage {
			total := all[name]
			if total.IsZero() {
				total = resource.Quantity{Format: q.Format}
			}
			total.Add(q)
			all[name] = total
		}
	}
	return all
}
