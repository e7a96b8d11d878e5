package identity

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	rootCAName        = "kube-root-ca.crt"
	rootCAKey         = "ca.crt"
	rootCAAnnotation  = "kubernetes.io/description"
	rootCADescription = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)

type rootCAController struct {
	namespaces *reconcile.View[*corev1.Namespace]
	maps       *reconcile.View[*corev1.ConfigMap]
	ca         string
}

// NewRootCA returns the controller that publishes the cluster's CA (PEM) as
// ConfigMap kube-root-ca.crt in every namespace.
func NewRootCA(h *reconcile.Hub, ca []byte) reconcile.Controller {
	return &rootCAController{reconcile.ViewOf[*corev1.Namespace](h), reconcile.ViewOf[*corev1.ConfigMap](h), string(ca)}
}

func (c *rootCAController) Name() string { return "root-ca-certificate-publisher" }

func (c *rootCAController) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.namespaces),
		reconcile.On(c.maps, func(old, new *corev1.ConfigMap, enqueue func(object.Key)) {
			m := new
			if m == nil {
				m = old
			}
			if m.Name == rootCAName {
				enqueue(object.Key{Name: m.Namespace})
			}
		}),
	}
}

func (c *rootCAController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.maps.Definition().GVK().GroupKind(), Field: "named " + rootCAName}}
}

func (c *rootCAController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	if !alive(c.namespaces, key.Name) {
		return reconcile.Result{}, nil
	}
	current, ok := c.maps.Get(key.Name, rootCAName)
	if !ok {
		_, err := client.Create(ctx, w, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: rootCAName, Annotations: map[string]string{rootCAAnnotation: rootCADescription}},
			Data:       map[string]string{rootCAKey: c.ca},
		})
		return reconcile.Result{}, ignoreRace(err)
	}
	if len(current.Data) == 1 && current.Data[rootCAKey] == c.ca && current.Annotations[rootCAAnnotation] != "" {
		return reconcile.Result{}, nil
	}
	next := current.DeepCopy()
	next.Data = map[string]string{rootCAKey: c.ca}
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	next.Annotations[rootCAAnnotation] = rootCADescription
	_, err := client.Update(ctx, w, next)
	return reconcile.Result{}, ignoreRace(err)
}
