package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sagong/kinds/expression"
	"sagong/object"
)

// Schemas describe kinds; nil for one that is not described.
type Schemas interface {
	Schema(schema.GroupVersionKind) (*spec.Schema, error)
}

// maxTypes bounds the kinds that a policy is checked against: the rule that comes
// to so many is the last one looked at, and those of the rules before it stay.
const maxTypes = 10

// checker compiles the expressions of a policy once more for each kind that it
// names, now knowing the types of object, oldObject and params: what is wrong
// then would fail when a write comes, and is warned of in the policy's status.
type checker struct {
	scheme  *object.Scheme
	schemas Schemas
}

// typed is a kind with its type; nil for one whose schema says nothing.
type typed struct {
	kind schema.GroupVersionKind
	decl *apiservercel.DeclType
}

// check returns what is wrong with the validations. Kinds without a schema, or
// whose schema cannot be read, are left out: that must not keep a policy from
// being observed.
func (c *checker) check(p *admissionregistrationv1.ValidatingAdmissionPolicy) []admissionregistrationv1.ExpressionWarning {
	var params *apiservercel.DeclType
	if k := p.Spec.ParamKind; k != nil {
		params, _ = c.typeOf("params", schema.FromAPIVersionAndKind(k.APIVersion, k.Kind))
	}
	var types []typed
	for _, k := range c.named(p) {
		if decl, found := c.typeOf("object", k); found {
			types = append(types, typed{k, decl})
		}
	}
	var warnings []admissionregistrationv1.ExpressionWarning
	at := field.NewPath("spec", "validations")
	for i, v := range p.Spec.Validations {
		for _, e := range []struct{ text, field string }{{v.Expression, "expression"}, {v.MessageExpression, "messageExpression"}} {
			if e.text == "" {
				continue
			}
			var texts []string
			for _, t := range types {
				if err := compileTyped(t.decl, params, p.Spec.ParamKind != nil, p.Spec.Variables, e.text); err != nil {
					texts = append(texts, fmt.Sprintf("%v: %s\n", t.kind, err))
				}
			}
			if len(texts) > 0 {
				warnings = append(warnings, admissionregistrationv1.ExpressionWarning{
					FieldRef: at.Index(i).Child(e.field).String(), Warning: strings.Join(texts, "\n"),
				})
			}
		}
	}
	return warnings
}

// named are the kinds that a policy's rules name without wildcards, sorted.
func (c *checker) named(p *admissionregistrationv1.ValidatingAdmissionPolicy) (out []schema.GroupVersionKind) {
	if p.Spec.MatchConstraints == nil {
		return nil
	}
	for _, r := range p.Spec.MatchConstraints.ResourceRules {
		kinds := c.ruled(r.Rule)
		for _, k := range kinds {
			if !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
		if len(kinds) == maxTypes {
			break
		}
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// ruled are the first maxTypes kinds of one rule, by group, version and resource.
func (c *checker) ruled(r admissionregistrationv1.Rule) (out []schema.GroupVersionKind) {
	wild := func(s string) bool { return strings.Contains(s, "*") }
	if slices.ContainsFunc(r.APIGroups, wild) || slices.ContainsFunc(r.APIVersions, wild) {
		return nil
	}
	for _, group := range slices.Sorted(slices.Values(r.APIGroups)) {
		for _, v := range slices.Sorted(slices.Values(r.APIVersions)) {
			for _, name := range slices.Sorted(slices.Values(r.Resources)) {
				k := c.kindOf(schema.GroupVersionResource{Group: group, Version: v, Resource: name})
				if k.Empty() {
					continue
				}
				if out = append(out, k); len(out) == maxTypes {
					return out
				}
			}
		}
	}
	return out
}

func (c *checker) kindOf(r schema.GroupVersionResource) schema.GroupVersionKind {
	d := c.scheme.ByResource(r)
	if d == nil {
		return schema.GroupVersionKind{}
	}
	for _, s := range d.Served {
		if s.Group == r.Group && s.Version == r.Version && s.Kind != "" {
			return r.GroupVersion().WithKind(s.Kind)
		}
	}
	return r.GroupVersion().WithKind(d.Kind)
}

// typeOf is the type of a kind, nil when its schema says nothing of it; found
// says whether there is a schema. The type is named after what it is of, since
// an object and its params may be of kinds of one name.
func (c *checker) typeOf(of string, k schema.GroupVersionKind) (t *apiservercel.DeclType, found bool) {
	s, err := c.schemas.Schema(k)
	if err != nil || s == nil {
		return nil, false
	}
	if t = common.SchemaDeclType(&openapi.Schema{Schema: s}, true); t == nil {
		return nil, true
	}
	return t.MaybeAssignTypeName(of + "." + k.Kind), true
}

// compileTyped compiles an expression, after the variables it may use. A type
// that is nil may be anything.
func compileTyped(obj, params *apiservercel.DeclType, hasParams bool, variables []admissionregistrationv1.Variable, text string) error {
	request, ns := cel.BuildRequestType(), cel.BuildNamespaceType()
	o := environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), DeclTypes: []*apiservercel.DeclType{ns, request},
		EnvOptions: []celgo.EnvOption{
			celgo.Variable(cel.NamespaceVarName, ns.CelType()), celgo.Variable(cel.RequestVarName, request.CelType()),
			celgo.Variable(cel.AuthorizerVarName, library.AuthorizerType), celgo.Variable(cel.RequestResourceAuthorizerVarName, library.ResourceCheckType),
		},
	}
	declare := func(t *apiservercel.DeclType, names ...string) {
		as := celgo.DynType
		if t != nil {
			o.DeclTypes, as = append(o.DeclTypes, t), t.CelType()
		}
		for _, name := range names {
			o.EnvOptions = append(o.EnvOptions, celgo.Variable(name, as))
		}
	}
	declare(obj, cel.ObjectVarName, cel.OldObjectVarName)
	if hasParams {
		declare(params, cel.ParamsVarName)
	}
	env, err := expression.Base().Extend(o)
	if err != nil {
		return fmt.Errorf("type checking error: %w", err)
	}
	c, err := cel.NewCompositedCompilerForTypeChecking(env)
	if err != nil {
		return fmt.Errorf("type checking error: %w", err)
	}
	c.Compiler = bare{c}
	compileVariables(c, variables, cel.OptionalVariableDeclarations{HasParams: hasParams, HasAuthorizer: true})
	if err := c.CompileCELExpression(untyped(text), cel.OptionalVariableDeclarations{}, environment.StoredExpressions).Error; err != nil {
		if err.Type != apiservercel.ErrorTypeInvalid {
			return fmt.Errorf("type checking error: %w", err)
		}
		return err
	}
	return nil
}

// untyped is an expression that may return anything: what it must return has
// been checked when it was written.
type untyped string

func (u untyped) GetExpression() string      { return string(u) }
func (u untyped) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.AnyType} }

// bare compiles in the environment of a policy as it stands, and makes no
// program of it.
type bare struct{ env *cel.CompositedCompiler }

func (b bare) CompileCELExpression(a cel.ExpressionAccessor, _ cel.OptionalVariableDeclarations, mode environment.Type) cel.CompilationResult {
	failed := func(t apiservercel.ErrorType, text string) cel.CompilationResult {
		return cel.CompilationResult{Error: &apiservercel.Error{Type: t, Detail: text}, ExpressionAccessor: a}
	}
	env, err := b.env.Env(mode)
	if err != nil {
		return failed(apiservercel.ErrorTypeInternal, fmt.Sprintf("fail to build env: %v", err))
	}
	ast, issues := env.Compile(a.GetExpression())
	if issues != nil {
		return failed(apiservercel.ErrorTypeInvalid, issues.String())
	}
	return cel.CompilationResult{OutputType: ast.OutputType()}
}
