package admissionregistration

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"sagong/kinds/check"
	"sagong/kinds/expression"
	"sagong/kinds/field"
)

// expressions compiles those of one object to see whether they can be.
type expressions struct {
	// params says that the expressions may use params, composed that there are
	// variables.
	params, composed bool
	// stored are expressions of the object as it was: they may use what newer
	// versions of the language allow.
	stored map[string]bool

	compiler cel.Compiler
}

func (x *expressions) storedBefore(texts ...string) {
	if x.stored == nil {
		x.stored = map[string]bool{}
	}
	for _, t := range texts {
		x.stored[t] = true
		x.stored[strings.TrimSpace(t)] = true
	}
}

func (x *expressions) storedConditions(list []admissionregistrationv1.MatchCondition) {
	for _, c := range list {
		x.storedBefore(c.Expression)
	}
}

func (x *expressions) storedVariables(list []admissionregistrationv1.Variable) {
	for _, v := range list {
		x.storedBefore(v.Expression)
	}
}

// use finds the compiler: one of the object's own when there are variables.
func (x *expressions) use() (cel.Compiler, error) {
	if x.compiler != nil {
		return x.compiler, nil
	}
	if !x.composed {
		x.compiler = expression.Compiler()
		return x.compiler, nil
	}
	c, err := expression.Composing()
	if err == nil {
		x.compiler = c
	}
	return c, err
}

func (x *expressions) mode(text string) environment.Type {
	if x.stored[text] {
		return environment.StoredExpressions
	}
	return environment.NewExpressions
}

func (x *expressions) check(a cel.ExpressionAccessor, authorizer, patches bool, p *field.Path) field.ErrorList {
	c, err := x.use()
	if err != nil {
		return field.ErrorList{field.InternalError(p, err)}
	}
	d := cel.OptionalVariableDeclarations{HasParams: x.params, HasAuthorizer: authorizer, HasPatchTypes: patches}
	return compileError(p, a, c.CompileCELExpression(a, d, x.mode(a.GetExpression())).Error)
}

func (x *expressions) variable(v *expression.Variable, p *field.Path) field.ErrorList {
	c, err := x.use()
	if err != nil {
		return field.ErrorList{field.InternalError(p, err)}
	}
	d := cel.OptionalVariableDeclarations{HasParams: x.params, HasAuthorizer: true}
	return compileError(p, v, c.(*cel.CompositedCompiler).CompileAndStoreVariable(v, d, x.mode(v.Expression)).Error)
}

func compileError(p *field.Path, a cel.ExpressionAccessor, err *apiservercel.Error) field.ErrorList {
	switch {
	case err == nil:
		return nil
	case err.Type == apiservercel.ErrorTypeRequired:
		return field.ErrorList{field.Required(p, err.Detail)}
	case err.Type == apiservercel.ErrorTypeInvalid:
		return field.ErrorList{field.Invalid(p, a.GetExpression(), err.Detail)}
	}
	return field.ErrorList{field.InternalError(p, err)}
}

// validateConditions checks match conditions, which cannot use variables.
func validateConditions(list []admissionregistrationv1.MatchCondition, p *field.Path, x *expressions) (errs field.ErrorList) {
	const most = 64
	if len(list) > most {
		errs = append(errs, field.TooMany(p, len(list), most))
	}
	alone := expressions{params: x.params, stored: x.stored}
	names := map[string]bool{}
	for i, c := range list {
		p := p.Index(i)
		if c.Expression = strings.TrimSpace(c.Expression); c.Expression == "" {
			errs = append(errs, field.Required(p.Child("expression"), ""))
		} else {
			errs = append(errs, alone.check((*expression.Condition)(&c), true, false, p.Child("expression"))...)
		}
		errs = append(errs, check.RequiredName(p.Child("name"), c.Name, utilvalidation.IsQualifiedName)...)
		if names[c.Name] && c.Name != "" {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		}
		names[c.Name] = true
	}
	return errs
}
