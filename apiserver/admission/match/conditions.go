package match

import (
	"context"

	celtypes "github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Versioned is the write in one version, as expressions see it.
func (r *Request) Versioned(t Target) (*admission.VersionedAttributes, error) {
	obj, err := r.ObjectIn(t.Kind)
	if err != nil {
		return nil, err
	}
	old, err := r.OldIn(t.Kind)
	if err != nil {
		return nil, err
	}
	a := admission.NewAttributesRecord(r.Object, nil, r.Kind, r.Namespace, r.Name, r.Resource, r.Subresource,
		admission.Operation(r.Operation), r.OptionsOf(), r.DryRun, r.User)
	v := &admission.VersionedAttributes{Attributes: a, VersionedKind: t.Kind}
	if obj != nil {
		v.VersionedObject.Set(obj)
	}
	if old != nil {
		v.VersionedOldObject.Set(old)
	}
	return v, nil
}

// Conditions decides whether all match conditions hold: one that is false
// decides, whatever became of the others; else an error counts as the failure
// policy has it: it is returned, or means no match.
func Conditions(ctx context.Context, e cel.ConditionEvaluator, v *admission.VersionedAttributes, t Target, params runtime.Object, authz authorizer.UnconditionalAuthorizer, ignore bool) (matches bool, failed int, err error) {
	request := cel.CreateAdmissionRequest(v.Attributes, metav1.GroupVersionResource(t.Resource), metav1.GroupVersionKind(t.Kind))
	results, _, err := e.ForInput(ctx, v, request, cel.OptionalVariableBindings{VersionedParams: params, Authorizer: authz}, nil, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		if ignore {
			err = nil
		}
		return false, 1, err
	}
	var errs []error
	for _, r := range results {
		if r.Error != nil {
			errs = append(errs, r.Error)
		} else if r.EvalResult == celtypes.False {
			return false, len(errs), nil
		}
	}
	if len(errs) == 0 {
		return true, 0, nil
	}
	if ignore {
		return false, len(errs), nil
	}
	return false, len(errs), utilerrors.NewAggregate(errs)
}

// Ignores says whether a failure policy lets a write pass when it cannot be
// judged.
func Ignores(p *admissionregistrationv1.FailurePolicyType) bool {
	return p != nil && *p == admissionregistrationv1.Ignore
}
