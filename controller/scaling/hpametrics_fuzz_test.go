package scaling

import (
	"context"
	"net/url"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/labels"
)

// What adapters of other metrics answer is read or refused.
func FuzzMetrics(f *testing.F) {
	f.Add([]byte(`{"kind":"MetricValueList","items":[{"describedObject":{"kind":"Pod","name":"a"},"metricName":"m","timestamp":"2026-01-01T00:00:00Z","window":60,"value":"500m"}]}`))
	f.Add([]byte(`{"items":[{"describedObject":null,"metric":{"name":"m"},"windowSeconds":-9223372036854775808,"value":"1e400"},{}]}`))
	f.Add([]byte(`{"items":[{"metricName":"m","value":"9223372036854775807","timestamp":null},{"value":"9E"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m := &meter{api: func(context.Context, string, url.Values) ([]byte, error) { return body, nil }}
		id := &autoscalingv2.MetricIdentifier{Name: "m"}
		if all, err := m.pods(t.Context(), "n", labels.Everything(), id); err == nil && len(all) == 0 {
			t.Error("no metrics and no error")
		}
		_, _ = m.object(t.Context(), nil, "n", autoscalingv2.CrossVersionObjectReference{Kind: "Namespace", APIVersion: "v1", Name: "n"}, id)
		_, _ = m.external(t.Context(), "n", id)
	})
}
