package apiserver_test

import (
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestServedVersions: the kinds with two versions are the same object in both.
func TestServedVersions(t *testing.T) {
	for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(media, func(t *testing.T) {
			c := start(t)
			k := c.clientset(media)
			v1, v2 := k.AutoscalingV1().HorizontalPodAutoscalers("default"), k.AutoscalingV2().HorizontalPodAutoscalers("default")
			w, err := v1.Watch(c.ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			made, err := v1.Create(c.ctx, &autoscalingv1.HorizontalPodAutoscaler{
				ObjectMeta: metav1.ObjectMeta{Name: "h"},
				Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
					ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{Kind: "Deployment", Name: "web", APIVersion: "apps/v1"},
					MinReplicas:    new(int32(1)), MaxReplicas: 5, TargetCPUUtilizationPercentage: new(int32(70)),
				},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(made.ManagedFields) != 1 || made.ManagedFields[0].APIVersion != "autoscaling/v1" {
				t.Errorf("managed fields %+v", made.ManagedFields)
			}
			two, err := v2.Get(c.ctx, "h", metav1.GetOptions{})
			if err != nil || two.UID != made.UID || len(two.Spec.Metrics) != 1 || *two.Spec.Metrics[0].Resource.Target.AverageUtilization != 70 {
				t.Fatalf("%+v, %v", two, err)
			}
			patched, err := v1.Patch(c.ctx, "h", types.MergePatchType, []byte(`{"spec":{"maxReplicas":9}}`), metav1.PatchOptions{})
			if err != nil || patched.Spec.MaxReplicas != 9 || *patched.Spec.TargetCPUUtilizationPercentage != 70 {
				t.Fatalf("%+v, %v", patched, err)
			}
			for _, max := range []int32{5, 9} {
				ev := <-w.ResultChan()
				if h, ok := ev.Object.(*autoscalingv1.HorizontalPodAutoscaler); !ok || h.Spec.MaxReplicas != max {
					t.Fatalf("%s %+v", ev.Type, ev.Object)
				}
			}
			if l, err := v1.List(c.ctx, metav1.ListOptions{}); err != nil || len(l.Items) != 1 || l.Items[0].ResourceVersion != patched.ResourceVersion {
				t.Fatalf("%+v, %v", l, err)
			}
			ev := &eventsv1.Event{
				ObjectMeta: metav1.ObjectMeta{Name: "e"}, EventTime: metav1.NowMicro(), ReportingController: "example.org/c", ReportingInstance: "c-1",
				Action: "Acting", Reason: "Because", Type: "Normal", Note: "hello",
			}
			ev.Regarding.Kind, ev.Regarding.Namespace, ev.Regarding.Name = "Pod", "default", "p"
			if _, err := k.EventsV1().Events("default").Create(c.ctx, ev, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			core, err := k.CoreV1().Events("default").List(c.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=p,reason=Because"})
			if err != nil || len(core.Items) != 1 || core.Items[0].Message != "hello" {
				t.Fatalf("%+v, %v", core, err)
			}
		})
	}
	c := start(t)
	code, b := c.do("PATCH", "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/h?fieldManager=m", `{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","spec":{"maxReplicas":3,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"w"}}}`, "Content-Type", "application/apply-patch+yaml")
	if code != 201 || !strings.Contains(b, `"apiVersion":"autoscaling/v1"`) || !strings.Contains(b, `"maxReplicas":3`) {
		t.Fatalf("%d %s", code, b)
	}
}
