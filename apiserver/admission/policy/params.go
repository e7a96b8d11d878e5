package policy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/admission/match"
	"sagong/client"
	"sagong/object"
)

// paramKind is the kind of params of policies in force. One that was served and
// is no longer has no objects; one that never was is a fault of the policy.
type paramKind struct {
	admissionregistrationv1.ParamKind
	seen atomic.Pointer[object.Definition]
}

func newParamKind(k *admissionregistrationv1.ParamKind) *paramKind {
	if k == nil {
		return nil
	}
	return &paramKind{ParamKind: *k}
}

// find is its definition, and whether it is served.
func (k *paramKind) find(s *object.Scheme) (*object.Definition, bool, error) {
	gvk := schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)
	if d := s.ByKind(gvk); d != nil {
		k.seen.Store(d)
		return d, true, nil
	}
	if d := k.seen.Load(); d != nil {
		return d, false, nil
	}
	return nil, false, fmt.Errorf("failed to find resource referenced by paramKind: '%v'", gvk)
}

// params reads what a binding names: one nil when the policy takes none, none
// when there are none and that means that the policy does not apply. Native ones
// say what they are only when they are typed.
func params(ctx context.Context, c client.Client, k *paramKind, ref *admissionregistrationv1.ParamRef, namespace string, typed bool) ([]runtime.Object, error) {
	if k == nil || ref == nil {
		return []runtime.Object{nil}, nil
	}
	d, served, err := k.find(c.Scheme())
	if err != nil {
		return nil, err
	}
	if d.Namespaced {
		if ref.Namespace != "" {
			namespace = ref.Namespace
		} else if namespace == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
	}
	if d.Virtual {
		return nil, fmt.Errorf("paramKind kind `%v` not yet synced to use for admission", k.ParamKind.String())
	}
	if !d.Namespaced {
		if ref.Namespace != "" {
			return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
		}
		namespace = ""
	}
	gvk := schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)
	var found []object.Object
	switch {
	case !served:
	case ref.Name != "":
		o, err := c.Get(ctx, d, namespace, ref.Name)
		switch {
		case err == nil:
			found = append(found, o)
		case !apierrors.IsNotFound(err):
			return nil, err
		}
	default:
		selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
		if err != nil {
			return nil, err
		}
		list, err := c.List(ctx, d, namespace, client.ListOptions{LabelSelector: selector.String()})
		if err != nil {
			return nil, err
		}
		found = list.Items
	}
	if len(found) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	out := make([]runtime.Object, len(found))
	for i, o := range found {
		if out[i], err = paramIn(d, o, gvk, typed); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// paramIn is a param in the version that the policy names.
func paramIn(d *object.Definition, o object.Object, gvk schema.GroupVersionKind, typed bool) (runtime.Object, error) {
	if d.Dynamic != nil && o.GetObjectKind().GroupVersionKind() == gvk {
		return o, nil
	}
	said := gvk
	if !typed && d.Dynamic == nil {
		said = schema.GroupVersionKind{}
	}
	for _, s := range d.Served {
		if s.Group == gvk.Group && s.Version == gvk.Version {
			c, err := s.To(o)
			if err != nil {
				return nil, err
			}
			return match.WithKind(c, said), nil
		}
	}
	return match.WithKind(o, said), nil
}
