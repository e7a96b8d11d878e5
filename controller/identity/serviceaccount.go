// Package identity holds the controllers that give namespaces and roles what
// they are known by: the default ServiceAccount, the root CA, aggregated rules.
package identity

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// defaultAccount is the ServiceAccount that pods run as unless they name one.
const defaultAccount = "default"

type serviceAccountController struct {
	namespaces *reconcile.View[*corev1.Namespace]
	accounts   *reconcile.View[*corev1.ServiceAccount]
}

// NewServiceAccount returns the controller that keeps a ServiceAccount "default"
// in every namespace.
func NewServiceAccount(h *reconcile.Hub) reconcile.Controller {
	return &serviceAccountController{reconcile.ViewOf[*corev1.Namespace](h), reconcile.ViewOf[*corev1.ServiceAccount](h)}
}

func (c *serviceAccountController) Name() string { return "serviceaccount" }

func (c *serviceAccountController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.namespaces),
		reconcile.On(c.accounts, func(old, new *corev1.ServiceAccount, enqueue func(object.Key)) {
			if new == nil && old.Name == defaultAccount {
				enqueue(object.Key{Name: old.Namespace})
			}
		}),
	}
}

func (c *serviceAccountController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.accounts.Definition().GVK().GroupKind(), Field: "named " + defaultAccount}}
}

func (c *serviceAccountController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if !alive(c.namespaces, key.Name) {
		return reconcile.Result{}, nil
	}
	if _, ok := c.accounts.Get(key.Name, defaultAccount); ok {
		return reconcile.Result{}, nil
	}
	_, err := client.Create(ctx, w, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: defaultAccount}})
	return reconcile.Result{}, ignoreRace(err)
}

// alive says whether a namespace exists and is not being deleted.
func alive(namespaces *reconcile.View[*corev1.Namespace], name string) bool {
	ns, ok := namespaces.Get("", name)
	return ok && ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating
}

// ignoreRace drops the errors of a creation that somebody was faster with or
// whose namespace is on its way out.
func ignoreRace(err error) error {
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}
