// Package expression holds what is said in CEL about admission: which kinds of
// expression webhooks and policies have, what each must return, and the
// compilers, which are made at first use so that starting does not wait for
// them.
package expression

import (
	"sync"

	celgo "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Compiler compiles expressions that share no variables.
var Compiler = sync.OnceValue(func() cel.Compiler { return cel.NewCompiler(Base()) })

// ConditionCompiler compiles conditions that share no variables.
var ConditionCompiler = sync.OnceValue(func() cel.ConditionCompiler { return cel.NewConditionCompiler(Base()) })

// Base is the environment that all others extend.
var Base = sync.OnceValue(func() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
})

// Composing makes a compiler of the expressions of one policy, which may use
// its variables.
func Composing() (*cel.CompositedCompiler, error) { return cel.NewCompositedCompiler(Base()) }

// Condition is a match condition.
type Condition admissionregistrationv1.MatchCondition

// GetExpression implements cel.ExpressionAccessor.
func (c *Condition) GetExpression() string { return c.Expression }

// ReturnTypes implements cel.ExpressionAccessor.
func (c *Condition) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.BoolType} }

// Validation is a rule of a ValidatingAdmissionPolicy.
type Validation admissionregistrationv1.Validation

// GetExpression implements cel.ExpressionAccessor.
func (v *Validation) GetExpression() string { return v.Expression }

// ReturnTypes implements cel.ExpressionAccessor.
func (v *Validation) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.BoolType} }

// Message is a messageExpression.
type Message string

// GetExpression implements cel.ExpressionAccessor.
func (m Message) GetExpression() string { return string(m) }

// ReturnTypes implements cel.ExpressionAccessor.
func (m Message) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.StringType} }

// AuditAnnotation is one of a policy.
type AuditAnnotation admissionregistrationv1.AuditAnnotation

// GetExpression implements cel.ExpressionAccessor.
func (a *AuditAnnotation) GetExpression() string { return a.ValueExpression }

// ReturnTypes implements cel.ExpressionAccessor.
func (a *AuditAnnotation) ReturnTypes() []*celgo.Type {
	return []*celgo.Type{celgo.StringType, celgo.NullType}
}

// Variable is a named expression of a policy.
type Variable admissionregistrationv1.Variable

// GetName implements cel.NamedExpressionAccessor.
func (v *Variable) GetName() string { return v.Name }

// GetExpression implements cel.ExpressionAccessor.
func (v *Variable) GetExpression() string { return v.Expression }

// ReturnTypes implements cel.ExpressionAccessor.
func (v *Variable) ReturnTypes() []*celgo.Type {
	return []*celgo.Type{celgo.AnyType, celgo.DynType}
}

// ApplyConfiguration and JSONPatch are the expressions of mutations.
type (
	ApplyConfiguration = patch.ApplyConfigurationCondition
	JSONPatch          = patch.JSONPatchCondition
)

// Conditions compiles match conditions.
func Conditions(c cel.ConditionCompiler, list []admissionregistrationv1.MatchCondition, d cel.OptionalVariableDeclarations) cel.ConditionEvaluator {
	accessors := make([]cel.ExpressionAccessor, len(list))
	for i := range list {
		accessors[i] = (*Condition)(&list[i])
	}
	return c.CompileCondition(accessors, d, environment.StoredExpressions)
}
