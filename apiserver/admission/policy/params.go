package policy

import (
	"context"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/admission/match"
	"sagong/client"
	"sagong/object"
)

// unknownKind is the error for a paramKind that is not served.
type unknownKind schema.GroupVersionKind

func (u unknownKind) Error() string {
	return fmt.Sprintf("failed to find resource referenced by paramKind: '%v'", schema.GroupVersionKind(u))
}

// paramDefinition finds the kind of a policy's params.
func paramDefinition(s *object.Scheme, k *admissionregistrationv1.ParamKind) (*object.Definition, schema.GroupVersionKind, error) {
	gvk := schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)
	d := s.ByKind(gvk)
	if d == nil || d.Virtual {
		return nil, gvk, unknownKind(gvk)
	}
	return d, gvk, nil
}

// params reads what a binding names: one nil when the policy takes none, none
// when there are none and that means that the policy does not apply.
func params(ctx context.Context, c client.Client, k *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef, namespace string) ([]runtime.Object, error) {
	if k == nil || ref == nil {
		return []runtime.Object{nil}, nil
	}
	d, gvk, err := paramDefinition(c.Scheme(), k)
	if err != nil {
		return nil, err
	}
	if d.Namespaced {
		if ref.Namespace != "" {
			namespace = ref.Namespace
		} else if namespace == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
	} else {
		if ref.Namespace != "" {
			return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
		}
		namespace = ""
	}
	var found []object.Object
	if ref.Name != "" {
		o, err := c.Get(ctx, d, namespace, ref.Name)
		switch {
		case err == nil:
			found = append(found, o)
		case !apierrors.IsNotFound(err):
			return nil, err
		}
	} else {
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
		if out[i], err = paramIn(d, o, gvk); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// paramIn is a param in the version that the policy names.
func paramIn(d *object.Definition, o object.Object, gvk schema.GroupVersionKind) (runtime.Object, error) {
	if o.GetObjectKind().GroupVersionKind() == gvk {
		return o, nil // a custom object
	}
	for _, s := range d.Served {
		if s.Group == gvk.Group && s.Version == gvk.Version {
			c, err := s.To(o)
			if err != nil {
				return nil, err
			}
			return match.WithKind(c, gvk), nil
		}
	}
	return match.WithKind(o, gvk), nil
}
