package controller_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sagong/client"
	"sagong/controller"
	"sagong/object"
)

// usage answers PodMetrics: every pod uses as many thousandths of a core.
type usage struct {
	c    *cluster
	mu   sync.Mutex
	each int64
}

func (u *usage) set(n int64) { u.mu.Lock(); u.each = n; u.mu.Unlock() }

func (u *usage) Get(context.Context, string, string) (object.Object, error) { return nil, nil }
func (u *usage) List(ctx context.Context, namespace string, s object.Selector) (all []object.Object, _ error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range list[*corev1.Pod](u.c, namespace) {
		if s.MatchesMeta(p) && p.Status.Phase == corev1.PodRunning && u.each >= 0 {
			all = append(all, &metricsv1beta1.PodMetrics{
				ObjectMeta: p.ObjectMeta, Timestamp: metav1.Now(), Window: metav1.Duration{Duration: 15 * time.Second},
				Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(u.each, resource.DecimalSI)}}},
			})
		}
	}
	return all, nil
}

// scaled is a deployment whose containers request 100m, its autoscaler, and what
// its pods use.
func scaled(t *testing.T, d controller.Deps, replicas int32, spec autoscalingv2.HorizontalPodAutoscalerSpec) (*cluster, *usage) {
	c := startWith(t, d)
	t.Cleanup(c.keep(&keeper{quiet: func(string) bool { return false }}))
	u := &usage{c: c, each: 50}
	c.c.Engine().ReadFrom(object.Of[*metricsv1beta1.PodMetrics](c.c.Scheme()), u)
	w := web(replicas, "v1")
	w.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	must(client.Create(t.Context(), c.c, w))
	synctest.Wait()
	// Past the time in which processor use is not trusted.
	time.Sleep(6 * time.Minute)
	spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}
	must(client.Create(t.Context(), c.c, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: spec}))
	synctest.Wait()
	return c, u
}

func (c *cluster) hpa(name string) *autoscalingv2.HorizontalPodAutoscaler {
	return must(client.Get[*autoscalingv2.HorizontalPodAutoscaler](c.Context(), c.c, "default", name))
}

// rounds lets the autoscaler look n times more.
func (c *cluster) rounds(n int) {
	time.Sleep(time.Duration(n)*15*time.Second + time.Second)
	synctest.Wait()
}

func (c *cluster) expectCondition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, text string) {
	c.Helper()
	h := c.hpa("web")
	all := h.Status.Conditions
	if !slices.ContainsFunc(all, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == kind && c.Status == status && c.Reason == reason && strings.Contains(c.Message, text) && c.ObservedGeneration != nil && *c.ObservedGeneration == h.Generation
	}) {
		c.Fatalf("no %s=%s %s %q: %+v", kind, status, reason, text, all)
	}
}

func (c *cluster) expectEvent(reason, text string) {
	c.Helper()
	all := list[*corev1.Event](c, "default")
	if !slices.ContainsFunc(all, func(e *corev1.Event) bool {
		return e.Reason == reason && strings.Contains(e.Message, text) && e.InvolvedObject.Kind == "HorizontalPodAutoscaler" && e.Source.Component == "horizontal-pod-autoscaler"
	}) {
		var have []string
		for _, e := range all {
			have = append(have, e.Reason+": "+e.Message)
		}
		c.Fatalf("no event %s %q:\n%s", reason, text, strings.Join(have, "\n"))
	}
}

func (c *cluster) expectSize(n int32) {
	c.Helper()
	if d := c.deployment(); *d.Spec.Replicas != n {
		c.Fatalf("%d replicas, want %d: %+v", *d.Spec.Replicas, n, c.hpa("web").Status)
	}
}

// A size that somebody else has given, which may be another leader, is held for
// the window in which sizes are held.
func TestAutoscalerHoldsWhatOthersGave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := scaled(t, controller.Deps{}, 2, autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: new(int32(2)), MaxReplicas: 6, Metrics: []autoscalingv2.MetricSpec{{
			Type:     autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))}},
		}}})
		u.set(20)
		time.Sleep(10 * time.Minute)
		c.expectSize(2)
		edit(c, "web", func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(4)) })
		c.rounds(15) // within five minutes
		c.expectSize(4)
		c.rounds(8)
		c.expectSize(2)
	})
}

func TestAutoscalerFollowsProcessorUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := scaled(t, controller.Deps{}, 2, autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: new(int32(2)), MaxReplicas: 6, Metrics: []autoscalingv2.MetricSpec{{
			Type:     autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))}},
		}}})
		c.expectSize(2)
		s := c.hpa("web").Status
		if s.CurrentReplicas != 2 || s.DesiredReplicas != 2 || *s.ObservedGeneration != 1 || *s.CurrentMetrics[0].Resource.Current.AverageUtilization != 50 || s.CurrentMetrics[0].Resource.Current.AverageValue.String() != "50m" {
			t.Fatalf("%+v", s)
		}
		c.expectCondition(autoscalingv2.AbleToScale, "True", "ReadyForNewScale", "recommended size matches current size")
		c.expectCondition(autoscalingv2.ScalingActive, "True", "ValidMetricFound", "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)")
		c.expectCondition(autoscalingv2.ScalingLimited, "False", "DesiredWithinRange", "the desired count is within the acceptable range")

		u.set(90)
		c.rounds(1)
		c.expectSize(4)
		c.expectCondition(autoscalingv2.AbleToScale, "True", "SucceededRescale", "the HPA controller was able to update the target scale to 4")
		c.expectEvent("SuccessfulRescale", "New size: 4; reason: cpu resource utilization (percentage of request) above target")
		if c.hpa("web").Status.LastScaleTime == nil {
			t.Fatal("no time of the change")
		}
		time.Sleep(6 * time.Minute) // until the new pods count
		c.rounds(1)
		c.expectSize(6)
		c.expectCondition(autoscalingv2.ScalingLimited, "True", "TooManyReplicas", "more than the maximum")

		u.set(10)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		c.expectSize(6)
		c.expectCondition(autoscalingv2.AbleToScale, "True", "ScaleDownStabilized", "recent recommendations were higher")
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		c.expectSize(2)
		c.expectEvent("SuccessfulRescale", "New size: 2; reason: All metrics below target")

		u.set(-1)
		c.rounds(1)
		c.expectSize(2)
		c.expectCondition(autoscalingv2.ScalingActive, "False", "FailedGetResourceMetric", "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API")
		c.expectEvent("FailedGetResourceMetric", "failed to get cpu utilization")
		c.expectEvent("FailedComputeMetricsReplicas", "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: ")

		c.change(func(d *appsv1.Deployment) { *d.Spec.Replicas = 0 })
		c.rounds(1)
		c.expectCondition(autoscalingv2.ScalingActive, "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		c.expectSize(0)
		c.change(func(d *appsv1.Deployment) { *d.Spec.Replicas = 9 })
		c.rounds(1)
		c.expectSize(6)
		c.expectEvent("SuccessfulRescale", "New size: 6; reason: Current number of replicas above Spec.MaxReplicas")
		c.change(func(d *appsv1.Deployment) { *d.Spec.Replicas = 1 })
		c.rounds(1)
		c.expectSize(2)
		c.expectEvent("SuccessfulRescale", "New size: 2; reason: Current number of replicas below Spec.MinReplicas")
	})
}

// TestAutoscalerBeginsWithTheSizeThere has an autoscaler that remembers nothing, as
// after a restart, hold the size it finds for as long as it holds any: the load may
// only dip for a moment.
func TestAutoscalerBeginsWithTheSizeThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scaled(t, controller.Deps{}, 4, autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: new(int32(1)), MaxReplicas: 6, Metrics: []autoscalingv2.MetricSpec{{
			Type:     autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(100))}},
		}}})
		c.rounds(19) // 4 min 46 s
		c.expectSize(4)
		c.rounds(2)
		c.expectSize(2)
	})
}

func TestAutoscalersOfTheSamePods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scaled(t, controller.Deps{}, 1, autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 3})
		for name, target := range map[string]string{"other": "web", "nothing": "none"} {
			h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: c.hpa("web").DeepCopy().Spec}
			h.Spec.ScaleTargetRef.Name = target
			must(client.Create(t.Context(), c.c, h))
		}
		c.rounds(1)
		c.expectCondition(autoscalingv2.ScalingActive, "False", "AmbiguousSelector", "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]")
		c.expectEvent("FailedGetScale", `deployments.apps "none" not found`)
		if err := client.Delete[*autoscalingv2.HorizontalPodAutoscaler](t.Context(), client.Client(c.c), "default", "other", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.rounds(1)
		c.expectCondition(autoscalingv2.ScalingActive, "True", "ValidMetricFound", "")
	})
}

// foreign is an aggregated API server of metrics: by path, the value.
type foreign struct {
	mu     sync.Mutex
	values map[string]string
	asked  []string
}

func (f *foreign) set(path, value string) { f.mu.Lock(); f.values[path] = value; f.mu.Unlock() }

func (f *foreign) read(_ context.Context, path string, q url.Values) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, path+"?"+q.Encode())
	if path == "/apis/custom.metrics.k8s.io/v1beta2" {
		return []byte("{}"), nil
	}
	v, ok := f.values[path]
	if !ok {
		return nil, errors.New("the server could not find the requested resource")
	}
	return fmt.Appendf(nil, `{"items":[{"describedObject":{"kind":"Pod","name":"x"},"timestamp":"2000-01-01T00:00:00Z","value":%q}]}`, v), nil
}

// TestAutoscalerSleeps goes down to no pods by a metric that is there without
// them, and back; a target that somebody else stopped stays so.
func TestAutoscalerSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &foreign{values: map[string]string{}}
		const queue, requests = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/jobs", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/services/front/requests"
		f.set(queue, "25")
		f.set(requests, "1500m")
		c, _ := scaled(t, controller.Deps{ReadAPI: f.read}, 1, autoscalingv2.HorizontalPodAutoscalerSpec{
			MinReplicas: new(int32(0)), MaxReplicas: 8,
			Metrics: []autoscalingv2.MetricSpec{
				{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
					Metric: autoscalingv2.MetricIdentifier{Name: "jobs", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"queue": "a"}}},
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10"))},
				}},
				{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
					DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Service", Name: "front"},
					Metric:          autoscalingv2.MetricIdentifier{Name: "requests"},
					Target:          autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: new(resource.MustParse("2"))},
				}},
			},
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(int32(0))}},
		})
		c.expectSize(3)
		if !slices.Contains(f.asked, queue+"?labelSelector=queue%3Da") {
			t.Errorf("asked %q", f.asked)
		}
		c.expectCondition(autoscalingv2.ScaledToZero, "False", "NotScaledToZero", "")
		f.set(queue, "0")
		f.set(requests, "0")
		c.rounds(1)
		c.expectSize(0)
		c.expectCondition(autoscalingv2.ScaledToZero, "True", "ScaledToZero", "the HPA controller scaled the workload to zero")
		c.rounds(2)
		c.expectSize(0)
		f.set(requests, "3")
		c.rounds(1)
		c.expectSize(2)
		f.set(queue, "x")
		c.rounds(1)
		c.expectSize(3) // the metric that is left; the other would have it no smaller
		c.expectEvent("FailedGetExternalMetric", "unable to get external metric default/jobs/&LabelSelector{MatchLabels:map[string]string{queue: a,}")
		f.set(requests, "x")
		c.rounds(1)
		c.expectEvent("FailedGetObjectMetric", "unable to get metric requests on Service default/front: ")
		f.set(queue, "0")
		c.change(func(d *appsv1.Deployment) { *d.Spec.Replicas = 0 })
		c.rounds(2)
		c.expectSize(0)
		c.expectCondition(autoscalingv2.ScalingActive, "False", "ScalingDisabled", "")
	})
}

// TestAutoscalerWithoutMetricsAPIs: what is said when nobody serves the metrics.
func TestAutoscalerWithoutMetricsAPIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ten := resource.MustParse("10")
		c, _ := scaled(t, controller.Deps{}, 1, autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 8, Metrics: []autoscalingv2.MetricSpec{
			{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: "packets"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &ten},
			}},
			{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: "jobs"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: &ten},
			}},
		}})
		c.rounds(1)
		c.expectCondition(autoscalingv2.ScalingActive, "False", "FailedGetPodsMetric", "unable to get metric packets: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered")
		c.expectEvent("FailedGetExternalMetric", "unable to fetch metrics from external metrics API: the server could not find the requested resource (get jobs.external.metrics.k8s.io)")
		c.expectSize(1)
	})
}
