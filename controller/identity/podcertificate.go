package identity

import (
	"context"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// keepPodRequest is when a request for a pod's certificate has long been answered
// and read, or will never be.
const keepPodRequest = 15 * time.Minute

type podCertificateCleaner struct {
	requests *reconcile.View[*certificatesv1.PodCertificateRequest]
	now      func() time.Time
}

// NewPodCertificateCleaner returns the controller that deletes requests for pods'
// certificates 15 minutes after they were made.
func NewPodCertificateCleaner(h *reconcile.Hub, now func() time.Time) reconcile.Controller {
	return &podCertificateCleaner{reconcile.ViewOf[*certificatesv1.PodCertificateRequest](h), now}
}

func (*podCertificateCleaner) Name() string { return "podcertificaterequest-cleaner-controller" }

func (c *podCertificateCleaner) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(c.requests)}
}

func (c *podCertificateCleaner) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.requests.Definition().GVK().GroupKind(), Field: "deletion"}}
}

func (c *podCertificateCleaner) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	r, ok := c.requests.Get(key.Namespace, key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if left := r.CreationTimestamp.Add(keepPodRequest).Sub(c.now()); left > 0 {
		return reconcile.Result{After: left}, nil
	}
	err := client.Delete[*certificatesv1.PodCertificateRequest](ctx, w, r.Namespace, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
	return reconcile.Result{}, gone(err)
}
