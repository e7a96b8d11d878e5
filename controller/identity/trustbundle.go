package identity

import (
	"context"
	"crypto/sha256"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// servingSigner stands for the authority of the API's own certificate.
const servingSigner = "kubernetes.io/kube-apiserver-serving"

type trustBundleController struct {
	bundles *reconcile.View[*certificatesv1.ClusterTrustBundle]
	name    string
	ca      string
}

// NewTrustBundle returns the controller that publishes the cluster's CA (PEM) as
// the one ClusterTrustBundle of the signer kubernetes.io/kube-apiserver-serving,
// named after what it holds.
func NewTrustBundle(h *reconcile.Hub, ca []byte) reconcile.Controller {
	hash := sha256.Sum256(ca)
	return &trustBundleController{reconcile.ViewOf[*certificatesv1.ClusterTrustBundle](h), fmt.Sprintf("kubernetes.io:kube-apiserver-serving:%x", hash[:12]), string(ca)}
}

func (*trustBundleController) Name() string {
	return "kube-apiserver-serving-clustertrustbundle-publisher-controller"
}

func (c *trustBundleController) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(c.bundles, func(old, now *certificatesv1.ClusterTrustBundle, enqueue func(object.Key)) {
		b := now
		if b == nil {
			b = old
		}
		if b.Spec.SignerName == servingSigner {
			enqueue(object.Key{Name: b.Name})
		}
	})}
}

func (c *trustBundleController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.bundles.Definition().GVK().GroupKind(), Field: "of " + servingSigner}}
}

// Run implements reconcile.Runner: the bundle is made when there is none.
func (c *trustBundleController) Run(_ context.Context, _ client.Client, enqueue func(object.Key)) error {
	enqueue(object.Key{Name: c.name})
	return nil
}

func (c *trustBundleController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	have, ok := c.bundles.Get("", key.Name)
	switch {
	case key.Name != c.name:
		if !ok || have.Spec.SignerName != servingSigner {
			return reconcile.Result{}, nil
		}
		err := client.Delete[*certificatesv1.ClusterTrustBundle](ctx, w, "", key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}})
		return reconcile.Result{}, gone(err)
	case !ok:
		_, err := client.Create(ctx, w, &certificatesv1.ClusterTrustBundle{
			ObjectMeta: metav1.ObjectMeta{Name: c.name},
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: servingSigner, TrustBundle: c.ca},
		})
		return reconcile.Result{}, ignoreRace(err)
	case have.Spec.TrustBundle != c.ca:
		next := have.DeepCopy()
		next.Spec.TrustBundle = c.ca
		_, err := client.Update(ctx, w, next)
		return reconcile.Result{}, ignoreRace(err)
	}
	return reconcile.Result{}, nil
}
