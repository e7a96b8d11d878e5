package usage

import (
	"cmp"
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sagong/object"
)

// list asks for a reading. The end of ctx is the API's timeout.
func (c *Collector) list(ctx context.Context) (*reading, error) {
	r, err := c.current(ctx)
	if err != nil {
		return nil, timedOut()
	}
	return r, nil
}

func timedOut() error { return apierrors.NewTimeoutError("metrics were not collected in time", 1) }

// nodeSource answers NodeMetrics.
type nodeSource struct{ *Collector }

// Get implements resource.Source.
func (s nodeSource) Get(ctx context.Context, _, name string) (object.Object, error) {
	if err := s.Nodes.Need(ctx); err != nil {
		return nil, timedOut()
	}
	n, ok := s.Nodes.Get("", name)
	if !ok {
		return nil, nil
	}
	r, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	return untyped(r.node(n)), nil
}

// List implements resource.Source.
func (s nodeSource) List(ctx context.Context, _ string, sel object.Selector) ([]object.Object, error) {
	r, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	var out []object.Object
	for _, n := range s.Nodes.All() {
		if sel.MatchesMeta(n) {
			if m := r.node(n); m != nil {
				out = append(out, m)
			}
		}
	}
	sortByName(out)
	return out, nil
}

// podSource answers PodMetrics.
type podSource struct{ *Collector }

// Get implements resource.Source.
func (s podSource) Get(ctx context.Context, namespace, name string) (object.Object, error) {
	if err := s.Pods.Need(ctx); err != nil {
		return nil, timedOut()
	}
	p, ok := s.Pods.Get(namespace, name)
	if !ok {
		return nil, nil
	}
	r, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	return untyped(r.pod(p)), nil
}

// List implements resource.Source.
func (s podSource) List(ctx context.Context, namespace string, sel object.Selector) ([]object.Object, error) {
	r, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	pods := s.Pods.All
	if namespace != "" {
		pods = func() []*corev1.Pod { return s.Pods.By("namespace", namespace) }
	}
	var out []object.Object
	for _, p := range pods() {
		if sel.MatchesMeta(p) {
			if m := r.pod(p); m != nil {
				out = append(out, m)
			}
		}
	}
	sortByName(out)
	return out, nil
}

// untyped makes a nil pointer a nil object.
func untyped[T any, P interface {
	*T
	object.Object
}](o P) object.Object {
	if o == nil {
		return nil
	}
	return o
}

func sortByName(all []object.Object) {
	slices.SortFunc(all, func(a, b object.Object) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// node is what a node uses; nil when that is not known.
func (r *reading) node(n *corev1.Node) *metricsv1beta1.NodeMetrics {
	s := r.nodes[n.Name]
	if s == nil || s.window == 0 {
		return nil
	}
	return &metricsv1beta1.NodeMetrics{
		ObjectMeta: metaOf(n), Timestamp: stamp(s.at), Window: metav1.Duration{Duration: s.window.Round(time.Millisecond)}, Usage: s.usage(),
	}
}

// pod is what a pod's containers use; nil unless that is known of all that run.
func (r *reading) pod(p *corev1.Pod) *metricsv1beta1.PodMetrics {
	ps := r.pods[object.KeyOf(p)]
	if ps == nil || len(*ps) == 0 {
		return nil
	}
	m := &metricsv1beta1.PodMetrics{ObjectMeta: metaOf(p)}
	for name, s := range *ps {
		if s.window == 0 {
			return nil
		}
		if m.Timestamp.IsZero() || s.at.Before(m.Timestamp.Time) {
			m.Timestamp, m.Window = stamp(s.at), metav1.Duration{Duration: s.window.Round(time.Millisecond)}
		}
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: name, Usage: s.usage()})
	}
	slices.SortFunc(m.Containers, func(a, b metricsv1beta1.ContainerMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return m
}

// metaOf names and labels metrics as what they are about; they are as old as the
// answer.
func metaOf(o object.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(), CreationTimestamp: stamp(time.Now())}
}

// stamp has the whole seconds that the API gives times in.
func stamp(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

// usage is in nanocores and bytes, in the forms of metrics-server.
func (s *sample) usage() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *apiresource.NewScaledQuantity(int64(s.rate*1e9), apiresource.Nano),
		corev1.ResourceMemory: *apiresource.NewQuantity(int64(s.memory), apiresource.BinarySI),
	}
}
