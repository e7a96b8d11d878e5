package autoscaling

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// HorizontalPodAutoscaler defines autoscaling/v2 HorizontalPodAutoscaler,
// served as autoscaling/v1 too.
func HorizontalPodAutoscaler() *object.Definition {
	spec := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()
	return object.Kind[*autoscalingv2.HorizontalPodAutoscaler]{
		Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler", Resource: "horizontalpodautoscalers",
		ShortNames: []string{"hpa"}, Categories: []string{"all"}, Namespaced: true, Status: true, Generation: true,
		New:     func() *autoscalingv2.HorizontalPodAutoscaler { return &autoscalingv2.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Served: []object.ServedVersion{{
			Group: "autoscaling", Version: "v1",
			New:     func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
			NewList: func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
			To: func(o object.Object) (runtime.Object, error) {
				return toV1(o.(*autoscalingv2.HorizontalPodAutoscaler))
			},
			From: func(o runtime.Object) (object.Object, error) {
				return fromV1(o.(*autoscalingv1.HorizontalPodAutoscaler)), nil
			},
		}},
		Columns: []object.TypedColumn[*autoscalingv2.HorizontalPodAutoscaler]{
			object.NameColumn[*autoscalingv2.HorizontalPodAutoscaler](),
			object.StringColumn("Reference", spec["scaleTargetRef"], func(h *autoscalingv2.HorizontalPodAutoscaler) string {
				return h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
			}),
			object.StringColumn("Targets", spec["metrics"], targets),
			object.StringColumn("MinPods", spec["minReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) string {
				if h.Spec.MinReplicas == nil {
					return "<unset>"
				}
				return strconv.Itoa(int(*h.Spec.MinReplicas))
			}),
			object.IntColumn("MaxPods", spec["maxReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) int64 { return int64(h.Spec.MaxReplicas) }).Text(),
			object.IntColumn("Replicas", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) int64 {
				return int64(h.Status.CurrentReplicas)
			}).Text(),
			object.AgeColumn[*autoscalingv2.HorizontalPodAutoscaler](),
		},
		Default: defaultAutoscaler,
		PrepareCreate: func(_ context.Context, h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
		},
		Validate:             validateAutoscaler,
		ValidateUpdate:       validateAutoscalerSpec,
		ValidateStatusUpdate: validateAutoscalerStatus,
	}.Definition()
}

// targets prints "current/target" of the first two metrics; statuses stand in
// the order of the specs.
func targets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(h.Spec.Metrics) == 0 {
		return "<none>"
	}
	var all []string
	for i := range h.Spec.Metrics {
		m := &h.Spec.Metrics[i]
		var now autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			now = h.Status.CurrentMetrics[i]
		}
		var current *autoscalingv2.MetricValueStatus
		switch m.Type {
		case autoscalingv2.ExternalMetricSourceType:
			if now.External != nil {
				current = &now.External.Current
			}
			all = append(all, valueCell(m.External.Target, current))
		case autoscalingv2.PodsMetricSourceType:
			if now.Pods != nil {
				current = &now.Pods.Current
			}
			all = append(all, averageCell(current)+"/"+m.Pods.Target.AverageValue.String())
		case autoscalingv2.ObjectMetricSourceType:
			if now.Object != nil {
				current = &now.Object.Current
			}
			all = append(all, valueCell(m.Object.Target, current))
		case autoscalingv2.ResourceMetricSourceType:
			if now.Resource != nil {
				current = &now.Resource.Current
			}
			all = append(all, string(m.Resource.Name)+": "+resourceCell(m.Resource.Target, current))
		case autoscalingv2.ContainerResourceMetricSourceType:
			if now.ContainerResource != nil {
				current = &now.ContainerResource.Current
			}
			all = append(all, string(m.ContainerResource.Name)+": "+resourceCell(m.ContainerResource.Target, current))
		default:
			all = append(all, "<unknown type>")
		}
	}
	if len(all) > 2 {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:2], ", "), len(all)-2)
	}
	return strings.Join(all, ", ")
}

const unknown = "<unknown>"

// averageCell is "<nil>", as upstream prints it, where a status says all but the
// average.
func averageCell(current *autoscalingv2.MetricValueStatus) string {
	if current == nil {
		return unknown
	}
	return current.AverageValue.String()
}

func valueCell(target autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		now := unknown
		if current != nil && current.AverageValue != nil {
			now = current.AverageValue.String()
		}
		return now + "/" + target.AverageValue.String() + " (avg)"
	}
	now := unknown
	if current != nil {
		now = current.Value.String()
	}
	return now + "/" + target.Value.String()
}

func resourceCell(target autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return averageCell(current) + "/" + target.AverageValue.String()
	}
	now, want := unknown, "<auto>"
	if current != nil && current.AverageUtilization != nil {
		now = fmt.Sprintf("%d%%", *current.AverageUtilization)
	}
	if target.AverageUtilization != nil {
		want = fmt.Sprintf("%d%%", *target.AverageUtilization)
	}
	return now + "/" + want
}
