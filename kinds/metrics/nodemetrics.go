package metrics

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sagong/object"
)

// NodeMetrics defines metrics.k8s.io/v1beta1 NodeMetrics.
func NodeMetrics() *object.Definition {
	return object.Kind[*metricsv1beta1.NodeMetrics]{
		Group: "metrics.k8s.io", Version: "v1beta1", Kind: "NodeMetrics", Resource: "nodes", Verbs: readOnly,
		New:     func() *metricsv1beta1.NodeMetrics { return &metricsv1beta1.NodeMetrics{} },
		NewList: func() runtime.Object { return &metricsv1beta1.NodeMetricsList{} },
		Columns: columns(
			func(m *metricsv1beta1.NodeMetrics) corev1.ResourceList { return m.Usage },
			func(m *metricsv1beta1.NodeMetrics) metav1.Duration { return m.Window }),
	}.Definition()
}
