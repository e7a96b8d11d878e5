package match

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

// Selectors are a namespaceSelector and an objectSelector, parsed. One that
// cannot be parsed matches with an error.
type Selectors struct {
	namespace, object       labels.Selector
	namespaceErr, objectErr error
}

// NewSelectors parses two selectors; nil ones match everything.
func NewSelectors(namespace, obj *metav1.LabelSelector) Selectors {
	parse := func(s *metav1.LabelSelector) (labels.Selector, error) {
		if s == nil {
			return labels.Everything(), nil
		}
		return metav1.LabelSelectorAsSelector(s)
	}
	var out Selectors
	out.namespace, out.namespaceErr = parse(namespace)
	out.object, out.objectErr = parse(obj)
	return out
}

// Match says whether a write is selected. An error counts only when everything
// else about the write matches as well.
func (s *Selectors) Match(ctx context.Context, c client.Client, r *Request) (bool, error) {
	ns, nsErr := s.matchNamespace(ctx, c, r)
	if !ns && nsErr == nil {
		return false, nil
	}
	obj, objErr := s.matchObject(r)
	if !obj && objErr == nil {
		return false, nil
	}
	return true, errors.Join(nsErr, objErr)
}

func (s *Selectors) matchNamespace(ctx context.Context, c client.Client, r *Request) (bool, error) {
	if r.Namespace == "" && !isNamespace(r) {
		return true, nil // a selector of namespaces exempts nothing cluster-wide
	}
	if s.namespaceErr != nil {
		return false, apierrors.NewInternalError(s.namespaceErr)
	}
	if s.namespace.Empty() {
		return true, nil
	}
	// A write to a Namespace counts by the labels that it would get.
	if isNamespace(r) && r.Subresource == "" && (r.Operation == resource.Create || r.Operation == resource.Update) {
		if o, ok := r.Object.(metav1.Object); ok {
			return s.namespace.Matches(labels.Set(o.GetLabels())), nil
		}
	}
	ns, err := Namespace(ctx, c, r.Namespace)
	if err != nil {
		if !apierrors.IsNotFound(err) {
			err = apierrors.NewInternalError(err)
		}
		return false, err
	}
	return s.namespace.Matches(labels.Set(ns.Labels)), nil
}

// Namespace reads a Namespace.
func Namespace(ctx context.Context, c client.Client, name string) (*corev1.Namespace, error) {
	o, err := c.Get(ctx, object.Of[*corev1.Namespace](c.Scheme()), "", name)
	if err != nil {
		return nil, err
	}
	return o.(*corev1.Namespace), nil
}

func (s *Selectors) matchObject(r *Request) (bool, error) {
	if s.objectErr != nil {
		return false, apierrors.NewInternalError(s.objectErr)
	}
	if s.object.Empty() {
		return true, nil
	}
	has := func(o runtime.Object) bool {
		m, ok := o.(metav1.Object)
		return ok && s.object.Matches(labels.Set(m.GetLabels()))
	}
	return has(r.Object) || r.Old != nil && has(r.Old), nil
}
