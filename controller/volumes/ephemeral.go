package volumes

import (
	"context"
	"fmt"
	"maps"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	helper "k8s.io/component-helpers/storage/ephemeral"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type ephemeralController struct {
	pods   *reconcile.View[*corev1.Pod]
	claims *reconcile.View[*corev1.PersistentVolumeClaim]
	events client.Recorder
	m      *EphemeralMetrics
}

// EphemeralMetrics count claims of ephemeral volumes under upstream's names.
type EphemeralMetrics struct{ tries, failures prometheus.Counter }

// NewEphemeralMetrics makes the metrics of one controller in a
// registry; nil is none.
func NewEphemeralMetrics(r prometheus.Registerer) *EphemeralMetrics {
	to := promauto.With(r)
	return &EphemeralMetrics{
		to.NewCounter(prometheus.CounterOpts{Name: "ephemeral_volume_controller_create_total", Help: "Number of PersistentVolumeClaims creation requests"}),
		to.NewCounter(prometheus.CounterOpts{Name: "ephemeral_volume_controller_create_failures_total", Help: "Number of PersistentVolumeClaims creation requests that failed"}),
	}
}

func (m *EphemeralMetrics) created(err error) {
	if m == nil {
		return
	}
	m.tries.Inc()
	if err != nil {
		m.failures.Inc()
	}
}

// NewEphemeral returns the controller that makes the claims of ephemeral
// volumes. A claim belongs to its pod and goes with it.
func NewEphemeral(h *reconcile.Hub, events client.Recorder, m *EphemeralMetrics) reconcile.Controller {
	return &ephemeralController{pods: podView(h), claims: claimView(h), events: events, m: m}
}

func (e *ephemeralController) Name() string { return "ephemeral-volume" }

func (e *ephemeralController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.On(e.pods, func(old, new *corev1.Pod, enqueue func(object.Key)) {
			if old == nil && new.DeletionTimestamp == nil && hasEphemeral(new) {
				enqueue(object.KeyOf(new))
			}
		}),
		reconcile.On(e.claims, func(old, new *corev1.PersistentVolumeClaim, enqueue func(object.Key)) {
			if new != nil {
				return
			}
			for _, p := range e.pods.By(byClaim, object.KeyOf(old).String()) {
				enqueue(object.KeyOf(p))
			}
		}),
	}
}

func hasEphemeral(p *corev1.Pod) bool {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Ephemeral != nil {
			return true
		}
	}
	return false
}

func (e *ephemeralController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: e.claims.Definition().GVK().GroupKind(), Field: "of Pod"}}
}

func (e *ephemeralController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	p, ok := e.pods.Get(key.Namespace, key.Name)
	if !ok || p.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; v.Ephemeral != nil {
			if err := e.claim(ctx, w, p, v); err != nil {
				e.events.Eventf(p, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", v.Name, err)
				return reconcile.Result{}, fmt.Errorf("ephemeral volume %s: %w", v.Name, err)
			}
		}
	}
	return reconcile.Result{}, nil
}

// claim sees to it that the claim of an ephemeral volume is there and the pod's.
func (e *ephemeralController) claim(ctx context.Context, w client.Client, p *corev1.Pod, v *corev1.Volume) error {
	name := helper.VolumeClaimName(p, v)
	c, ok := e.claims.Get(p.Namespace, name)
	if !ok {
		t := v.Ephemeral.VolumeClaimTemplate
		made, err := client.Create(ctx, w, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: p.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations),
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))},
			},
			Spec: *t.Spec.DeepCopy(),
		})
		e.m.created(err)
		switch {
		case apierrors.IsAlreadyExists(err):
			if made, err = client.Get[*corev1.PersistentVolumeClaim](ctx, w, p.Namespace, name); err != nil {
				return gone(err)
			}
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return nil
		case err != nil:
			return fmt.Errorf("create PVC %s: %w", name, err)
		}
		c = made
	}
	return helper.VolumeIsForPod(p, c) // another of that name has to go first
}
