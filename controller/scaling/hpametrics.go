package scaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	customv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sagong/client"
	"sagong/object"
)

// ReadAPI gets a path of an API that others serve (custom.metrics.k8s.io). An
// error of kind NotFound means that nobody serves it, or not that.
type ReadAPI func(ctx context.Context, path string, query url.Values) ([]byte, error)

// meter reads the metrics that autoscalers follow.
type meter struct {
	api ReadAPI
}

const (
	customGroup   = "/apis/custom.metrics.k8s.io/"
	externalGroup = "/apis/external.metrics.k8s.io/v1beta1"
	// customWindow is the time over which a custom metric was taken when it does
	// not say so.
	customWindow = time.Minute
)

// resource reads what the pods that a selector chooses use, all containers or one.
func (m *meter) resource(ctx context.Context, w client.Client, namespace string, selector labels.Selector, name corev1.ResourceName, container string) (map[string]podMetric, error) {
	all, _, err := client.ListOf[*metricsv1beta1.PodMetrics](ctx, w, namespace, client.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	out := make(map[string]podMetric, len(all))
	for _, p := range all {
		got := podMetric{at: p.Timestamp.Time, window: p.Window.Duration}
		found, whole := false, true
		for i := range p.Containers {
			c := &p.Containers[i]
			if container != "" && c.Name != container {
				continue
			}
			found = true
			q, ok := c.Usage[name]
			whole = whole && ok
			got.value += q.MilliValue()
		}
		if container != "" && !found {
			return nil, fmt.Errorf("failed to get container metrics: container %s not present in metrics for pod %s/%s", container, p.Namespace, p.Name)
		}
		if found && whole {
			out[p.Name] = got
		}
	}
	return out, nil
}

// custom reads a path of the custom metrics API, in the newest version served.
func (m *meter) custom(ctx context.Context, path string, query url.Values) ([]customv1beta2.MetricValue, error) {
	err := errors.New("no custom metrics API (custom.metrics.k8s.io) registered")
	if m.api != nil {
		for _, version := range []string{"v1beta2", "v1beta1"} {
			if _, served := m.api(ctx, customGroup+version, nil); served != nil {
				continue
			}
			var body []byte
			if body, err = m.api(ctx, customGroup+version+path, query); err != nil {
				break
			}
			return customValues(body)
		}
	}
	return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
}

// customValues reads a list of values of either version: v1beta1 has the
// metric's name where v1beta2 has more of it, and seconds under another name.
func customValues(body []byte) ([]customv1beta2.MetricValue, error) {
	var list struct {
		Items []struct {
			customv1beta2.MetricValue `json:",inline"`
			Window                    *int64 `json:"window"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	out := make([]customv1beta2.MetricValue, len(list.Items))
	for i, it := range list.Items {
		out[i] = it.MetricValue
		if out[i].WindowSeconds == nil {
			out[i].WindowSeconds = it.Window
		}
	}
	return out, nil
}

// metricQuery is that of a custom metric's own selector.
func metricQuery(selector *metav1.LabelSelector) (url.Values, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, err
	}
	v := url.Values{}
	if selector != nil && !s.Empty() {
		v.Set("metricLabelSelector", s.String())
	}
	return v, nil
}

// pods reads a custom metric of each pod that a selector chooses.
func (m *meter) pods(ctx context.Context, namespace string, selector labels.Selector, id *autoscalingv2.MetricIdentifier) (map[string]podMetric, error) {
	query, err := metricQuery(id.Selector)
	if err != nil {
		return nil, err
	}
	query.Set("labelSelector", selector.String())
	values, err := m.custom(ctx, "/namespaces/"+namespace+"/pods/*/"+url.PathEscape(id.Name), query)
	if err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	out := make(map[string]podMetric, len(values))
	for _, v := range values {
		got := podMetric{at: v.Timestamp.Time, window: customWindow, value: v.Value.MilliValue()}
		if v.WindowSeconds != nil {
			got.window = time.Duration(*v.WindowSeconds) * time.Second
		}
		out[v.DescribedObject.Name] = got
	}
	return out, nil
}

// object reads a custom metric of one object. A Namespace stands for the one the
// autoscaler is in: none reaches into another.
func (m *meter) object(ctx context.Context, scheme *object.Scheme, namespace string, ref autoscalingv2.CrossVersionObjectReference, id *autoscalingv2.MetricIdentifier) (int64, error) {
	query, err := metricQuery(id.Selector)
	if err != nil {
		return 0, err
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return 0, err
	}
	path := "/namespaces/" + namespace + "/metrics/" + url.PathEscape(id.Name)
	if ref.Kind != "Namespace" || gv.Group != "" {
		d := kindOf(scheme, gv.WithKind(ref.Kind))
		if d == nil {
			return 0, fmt.Errorf("unable to fetch metrics from custom metrics API: no matches for kind %q in group %q", ref.Kind, gv.Group)
		}
		path = "/namespaces/" + namespace + "/" + d.GR().String() + "/" + url.PathEscape(ref.Name) + "/" + url.PathEscape(id.Name)
	}
	values, err := m.custom(ctx, path, query)
	if err != nil {
		return 0, err
	}
	if len(values) != 1 {
		return 0, fmt.Errorf("unable to fetch metrics from custom metrics API: the custom metrics API server returned %d results when we asked for exactly one", len(values))
	}
	return values[0].Value.MilliValue(), nil
}

// external reads all values of a metric that belongs to no object, and adds them.
func (m *meter) external(ctx context.Context, namespace string, id *autoscalingv2.MetricIdentifier) (int64, error) {
	s, err := metav1.LabelSelectorAsSelector(id.Selector)
	if err != nil {
		return 0, err
	}
	err = fmt.Errorf("the server could not find the requested resource (get %s.external.metrics.k8s.io)", id.Name)
	var list externalv1beta1.ExternalMetricValueList
	if m.api != nil {
		query := url.Values{}
		if id.Selector != nil {
			query.Set("labelSelector", s.String())
		}
		var body []byte
		if body, err = m.api(ctx, externalGroup+"/namespaces/"+namespace+"/"+url.PathEscape(id.Name), query); err == nil {
			err = json.Unmarshal(body, &list)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("unable to fetch metrics from external metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return 0, errors.New("no metrics returned from external metrics API")
	}
	var sum int64
	for _, v := range list.Items {
		sum += v.Value.MilliValue()
	}
	return sum, nil
}
