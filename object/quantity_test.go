package object_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/kinds"
	"sagong/object"
)

// TestQuantitiesAreBounded reads numbers that would keep the library busy for
// seconds or for ever, as quantities and as texts, in every form of writing.
func TestQuantitiesAreBounded(t *testing.T) {
	all := kinds.All()
	pods := object.NewCodec(all[slices.IndexFunc(all, func(d *object.Definition) bool { return d.Kind == "Pod" })]).Storage()
	digits := strings.Repeat("1", 50_000)
	for _, n := range []string{
		"1e-1000000000", "1e1000000000", "-1.5E+1000000000", "0e1000000000", "1e00000000001", ".5e99999", "5.e99999",
		" 1e-1000000000 ", `\n1e-1000000000\t`, `\u20031e-1000000000`, `1\u0065-1\u00300000000`, `\u0031e-1000000000`, "1e100000000000",
		"0." + strings.Repeat("0", 900) + "1e-1000000000",
		digits, "0." + digits, "-" + digits + "Ki",
	} {
		short := fmt.Sprintf("%.40s", n)
		pod := `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"containers":[{"name":"a","resources":{"requests":{"cpu":%s}}}]}}`
		for _, strict := range []bool{false, true} {
			if _, err := object.DecodeInto(&corev1.Pod{}, fmt.Appendf(nil, pod, `"`+n+`"`), object.JSON, strict); err == nil || !strings.Contains(err.Error(), "quantit") {
				t.Errorf("%s: %.200v", short, err)
			}
			if _, err := object.DecodeInto(&corev1.Pod{}, fmt.Appendf(nil, pod, `"`+n+`"`), object.YAML, strict); err == nil {
				t.Errorf("%s: read from YAML", short)
			}
		}
		if strings.Trim(n, "-+.0123456789eE") == "" {
			if _, err := object.DecodeInto(&corev1.Pod{}, fmt.Appendf(nil, pod, n), object.JSON, false); err == nil {
				t.Errorf("%s: read without quotes", short)
			}
		}
		if _, _, err := object.DecodeApply(pods, fmt.Appendf(nil, pod, `"`+n+`"`), true); err == nil {
			t.Errorf("%s: applied", short)
		}
		if strings.ContainsAny(n, `\ `) {
			continue
		}
		// The same by number of field: spec 2, containers 2, resources 8, requests 2.
		msg := field(2, field(2, field(1, "a")+field(8, field(2, field(1, "cpu")+field(2, field(1, n))))))
		if _, err := object.DecodeInto(&corev1.Pod{}, envelope("Pod", msg), object.Protobuf, false); err == nil || !strings.Contains(err.Error(), "quantit") {
			t.Errorf("%s: in protobuf: %.200v", short, err)
		}
		// As a text, it is what it is.
		want := map[string]string{"a": n}
		o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: want}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1e9999")}}}}}}
		raw, err := o.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for f, body := range map[object.Format][]byte{
			object.JSON:     fmt.Appendf(nil, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","annotations":{"a":"%s"}},"spec":{"containers":[{"resources":{"requests":{"cpu":"1e9999"}}}]}}`, n),
			object.Protobuf: envelope("Pod", string(raw)),
		} {
			got := &corev1.Pod{}
			if _, err := object.DecodeInto(got, body, f, true); err != nil || got.Annotations["a"] != n {
				t.Errorf("%s as a text: %.40q, %.200v", short, got.Annotations["a"], err)
			}
		}
	}
}

// A text with what may be a long exponent is no reason to be told of quantities,
// whatever else is wrong with the body.
func TestOtherFaultsBesideLongNumbers(t *testing.T) {
	all := kinds.All()
	deployments := object.NewCodec(all[slices.IndexFunc(all, func(d *object.Definition) bool { return d.Kind == "Deployment" })]).Storage()
	body := []byte(`{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a","annotations":{"build":"12e456789"}},"spec":{"replicas":"a"}}`)
	if object.LongNumbers(body) == 0 {
		t.Fatal("nothing looks like a long number")
	}
	_, err := object.DecodeInto(deployments.New(), body, object.JSON, false)
	if err == nil || strings.Contains(err.Error(), "quantit") {
		t.Errorf("read: %v", err)
	}
	if _, err := object.MapFaults(deployments, body, false, nil, err); err == nil || err.Error() != "unrecognized type: int32" {
		t.Errorf("patched: %v", err)
	}
}

func field(number int, value string) string {
	return string(object.AppendBytesField[string](nil, number, value))
}

func envelope(kind, msg string) []byte {
	gvk := schema.GroupVersionKind{Version: "v1", Kind: kind}
	return append(object.AppendEnvelope(nil, gvk.Version, gvk.Kind, len(msg)), msg...)
}

func BenchmarkBoundQuantities(b *testing.B) {
	body := []byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","uid":"3f0a5a0c-7a0e-4d3e-9b1e-2d5b6a7c8d9e"},"spec":{"containers":[` +
		strings.Repeat(`{"name":"web","image":"registry.example.org/team/application@sha256:0e1234567890abcdef0e1234567890abcdef0e1234567890abcdef0e12345678","resources":{"requests":{"cpu":"100m","memory":"128Mi"}}},`, 12) + `{}]}}`)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		object.LongNumbers(body)
	}
}
