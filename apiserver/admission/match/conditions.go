package match

import (
	"context"
	"time"

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

// Conditions are the match conditions of a webhook or a policy.
type Conditions struct {
	Name       string
	Sort, Type string // for metrics: "webhook" or "policy"; "admit", "validating" or, of policies, "validate"
	Evaluator  cel.ConditionEvaluator
	Ignore     bool // the failure policy
	Metrics    *Metrics
}

// Hold decides whether all conditions do: one that is false decides, whatever
// became of the others; else an error counts as the failure policy has it: it is
// returned, or means no match. What is timed is what did not match, and the
// resource that conditions see is the requested one, even when the object is
// shown in another version: both as upstream does.
func (c *Conditions) Hold(ctx context.Context, v *admission.VersionedAttributes, params runtime.Object, authz authorizer.UnconditionalAuthorizer) (bool, error) {
	begun := time.Now()
	op := string(v.GetOperation())
	request := cel.CreateAdmissionRequest(v.Attributes, metav1.GroupVersionResource(v.GetResource()), metav1.GroupVersionKind(v.VersionedKind))
	results, _, err := c.Evaluator.ForInput(ctx, v, request, cel.OptionalVariableBindings{VersionedParams: params, Authorizer: authz}, nil, celconfig.RuntimeCELCostBudgetMatchConditions)
	var errs []error
	if err == nil {
		for _, r := range results {
			if r.Error != nil {
				errs = append(errs, r.Error)
				c.Metrics.failed(c, op)
			} else if r.EvalResult == celtypes.False {
				c.Metrics.took(c, op, time.Since(begun))
				return false, nil
			}
		}
		if len(errs) == 0 {
			return true, nil
		}
		err = utilerrors.NewAggregate(errs)
	}
	c.Metrics.took(c, op, time.Since(begun))
	if c.Ignore {
		return false, nil
	}
	return false, err
}

// Ignores says whether a failure policy lets a write pass when it cannot be
// judged.
func Ignores(p *admissionregistrationv1.FailurePolicyType) bool {
	return p != nil && *p == admissionregistrationv1.Ignore
}
