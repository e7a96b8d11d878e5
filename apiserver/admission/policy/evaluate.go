package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	celtypes "github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"sagong/apiserver/admission/match"
	"sagong/kinds/expression"
)

// checks are a ValidatingAdmissionPolicy, compiled.
type checks struct {
	spec        *admissionregistrationv1.ValidatingAdmissionPolicySpec
	conditions  *match.Conditions // nil when there are none
	validations cel.ConditionEvaluator
	messages    cel.ConditionEvaluator
	annotations cel.ConditionEvaluator
}

func compileChecks(name string, s *admissionregistrationv1.ValidatingAdmissionPolicySpec, m *match.Metrics) (*checks, error) {
	c, err := expression.Composing()
	if err != nil {
		return nil, err
	}
	d := cel.OptionalVariableDeclarations{HasParams: s.ParamKind != nil, HasAuthorizer: true}
	compileVariables(c, s.Variables, d)
	out := &checks{spec: s}
	out.conditions = conditionsOf(c, name, s.MatchConditions, s.FailurePolicy, d, m)
	validations, messages := make([]cel.ExpressionAccessor, len(s.Validations)), make([]cel.ExpressionAccessor, len(s.Validations))
	for i := range s.Validations {
		v := &s.Validations[i]
		validations[i] = (*expression.Validation)(v)
		if v.MessageExpression != "" {
			messages[i] = expression.Message(v.MessageExpression)
		}
	}
	annotations := make([]cel.ExpressionAccessor, len(s.AuditAnnotations))
	for i := range s.AuditAnnotations {
		annotations[i] = (*expression.AuditAnnotation)(&s.AuditAnnotations[i])
	}
	out.validations = c.CompileCondition(validations, d, environment.StoredExpressions)
	out.annotations = c.CompileCondition(annotations, d, environment.StoredExpressions)
	d.HasAuthorizer = false
	out.messages = c.CompileCondition(messages, d, environment.StoredExpressions)
	return out, nil
}

// conditionsOf are the match conditions of a policy of either sort, which upstream
// counts alike.
func conditionsOf(c cel.ConditionCompiler, policy string, list []admissionregistrationv1.MatchCondition, f *admissionregistrationv1.FailurePolicyType, d cel.OptionalVariableDeclarations, m *match.Metrics) *match.Conditions {
	if len(list) == 0 {
		return nil
	}
	return &match.Conditions{Name: policy, Sort: "policy", Type: "validate", Evaluator: expression.Conditions(c, list, d), Ignore: match.Ignores(f), Metrics: m}
}

func compileVariables(c *cel.CompositedCompiler, list []admissionregistrationv1.Variable, d cel.OptionalVariableDeclarations) {
	all := make([]cel.NamedExpressionAccessor, len(list))
	for i := range list {
		all[i] = (*expression.Variable)(&list[i])
	}
	c.CompileAndStoreVariables(all, d, environment.StoredExpressions)
}

// decision is what one validation came to.
type decision struct {
	index   int
	deny    bool
	failed  bool // it could not be evaluated
	message string
	reason  metav1.StatusReason
	took    time.Duration
}

// note is what one audit annotation came to.
type note struct {
	key, value string // empty value: nothing to note
	err        string // the write is denied for it
	took       time.Duration
}

// evaluation is one policy on one write with one param.
type evaluation struct {
	*checks
	ignore    bool
	target    match.Target
	write     *admission.VersionedAttributes
	param     runtime.Object
	namespace *corev1.Namespace
	authz     authorizer.UnconditionalAuthorizer
}

// failure is the single decision of a policy that could not be evaluated.
func (e *evaluation) failure(err error) ([]decision, []note) {
	return []decision{{deny: !e.ignore, failed: true, message: err.Error()}}, nil
}

func (e *evaluation) run(ctx context.Context) ([]decision, []note) {
	if e.conditions != nil {
		ok, err := e.conditions.Hold(ctx, e.write, e.param, e.authz)
		if err != nil {
			return e.failure(err)
		}
		if !ok {
			return nil, nil
		}
	}
	request := cel.CreateAdmissionRequest(e.write.Attributes, metav1.GroupVersionResource(e.target.Resource), metav1.GroupVersionKind(e.target.Kind))
	ns := cel.CreateNamespaceObject(e.namespace)
	bare := cel.OptionalVariableBindings{VersionedParams: e.param}
	full := bare
	full.Authorizer = e.authz
	results, budget, err := e.validations.ForInput(ctx, e.write, request, full, ns, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return e.failure(err)
	}
	messages, _, messageErr := e.messages.ForInput(ctx, e.write, request, bare, ns, budget)
	decisions := make([]decision, len(results))
	for i, r := range results {
		d := decision{index: i, took: r.Elapsed}
		switch {
		case r.Error != nil:
			d.deny, d.failed, d.message = !e.ignore, true, r.Error.Error()
		case errors.Is(messageErr, apiservercel.ErrInternal) || errors.Is(messageErr, apiservercel.ErrOutOfBudget):
			d.deny, d.failed, d.message = !e.ignore, true, fmt.Sprintf("failed messageExpression: %s", messageErr)
		case r.EvalResult != celtypes.True:
			d.deny, d.reason = true, metav1.StatusReasonInvalid
			v := e.spec.Validations[i]
			if v.Reason != nil {
				d.reason = *v.Reason
			}
			var said *cel.EvaluationResult
			if i < len(messages) {
				said = &messages[i]
			}
			d.message = message(v, said)
		}
		decisions[i] = d
	}
	// Upstream lets these declare the authorizer, but not use it, and shows them
	// all of the Namespace.
	results, _, err = e.annotations.ForInput(ctx, e.write, request, bare, e.namespace, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return e.failure(err)
	}
	notes := make([]note, len(results))
	for i, r := range results {
		notes[i] = e.annotation(e.spec.AuditAnnotations[i], r)
	}
	return decisions, notes
}

// message is what a validation that does not hold says: its messageExpression
// when that gives one line of bounded length, else its message, else itself.
func message(v admissionregistrationv1.Validation, said *cel.EvaluationResult) string {
	if said != nil && said.Error == nil && said.EvalResult != nil {
		if s, ok := said.EvalResult.Value().(string); ok {
			s = strings.TrimSpace(s)
			if s != "" && len(s) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(s, "\n") {
				return s
			}
		}
	}
	if s := strings.TrimSpace(v.Message); s != "" {
		return s
	}
	return "failed expression: " + strings.TrimSpace(v.Expression)
}

func (e *evaluation) annotation(a admissionregistrationv1.AuditAnnotation, r cel.EvaluationResult) note {
	n := note{key: a.Key, took: r.Elapsed}
	if r.Error != nil {
		if !e.ignore {
			n.err = r.Error.Error()
		}
		return n
	}
	switch r.EvalResult.Type() {
	case celtypes.StringType:
		n.value, _ = r.EvalResult.Value().(string)
		n.value = strings.TrimSpace(n.value)
	case celtypes.NullType:
	default:
		n.err = fmt.Sprintf("valueExpression '%v' resulted in unsupported return type: %v. Return type must be either string or null.", a.ValueExpression, r.EvalResult.Type())
	}
	return n
}
