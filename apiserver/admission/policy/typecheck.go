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

// maxTypes bounds the kinds that a policy is checked against.
const maxTypes = 10

// checker compiles the expressions of a policy once more for each kind that it
// names, now knowing the types of object, oldObject and params: what is wrong
// then would fail when a write comes, and is warned of in the policy's status.
type checker struct {
	scheme  *object.Scheme
	schemas Schemas
}

// typed is a kind with its type.
type typed struct {
	kind schema.GroupVersionKind
	decl *apiservercel.DeclType
}

func (c *checker) check(p *admissionregistrationv1.ValidatingAdmissionPolicy) ([]admissionregistrationv1.ExpressionWarning, error) {
	var params *apiservercel.DeclType
	if k := p.Spec.ParamKind; k != nil {
		var err error
		if params, err = c.typeOf(schema.FromAPIVersionAndKind(k.APIVersion, k.Kind)); err != nil {
			return nil, err
		}
	}
	var types []typed
	for _, k := range c.named(p) {
		decl, err := c.typeOf(k)
		if err != nil {
			return nil, err
		}
		if decl != nil {
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
	return warnings, nil
}

// named are the kinds that a policy's rules name without wildcards, sorted.
func (c *checker) named(p *admissionregistrationv1.ValidatingAdmissionPolicy) (out []schema.GroupVersionKind) {
	if p.Spec.MatchConstraints == nil {
		return nil
	}
	for _, r := range p.Spec.MatchConstraints.ResourceRules {
		if slices.Contains(r.APIGroups, "*") || slices.Contains(r.APIVersions, "*") {
			continue
		}
		for _, group := range r.APIGroups {
			for _, v := range r.APIVersions {
				for _, name := range r.Resources {
					k := c.kindOf(schema.GroupVersionResource{Group: group, Version: v, Resource: name})
					if !k.Empty() && !slices.Contains(out, k) && len(out) < maxTypes {
						out = append(out, k)
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
	})
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

func (c *checker) typeOf(k schema.GroupVersionKind) (*apiservercel.DeclType, error) {
	s, err := c.schemas.Schema(k)
	if err != nil || s == nil {
		return nil, err
	}
	t := common.SchemaDeclType(&openapi.Schema{Schema: s}, true)
	if t == nil {
		return nil, nil
	}
	// The name must not be that of another type of the environment.
	return t.MaybeAssignTypeName("checked." + k.Kind), nil
}

// compileTyped compiles an expression, after the variables it may use.
func compileTyped(obj, params *apiservercel.DeclType, hasParams bool, variables []admissionregistrationv1.Variable, text string) error {
	request, ns := cel.BuildRequestType(), cel.BuildNamespaceType()
	o := environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), DeclTypes: []*apiservercel.DeclType{ns, request, obj},
		EnvOptions: []celgo.EnvOption{
			celgo.Variable(cel.NamespaceVarName, ns.CelType()), celgo.Variable(cel.RequestVarName, request.CelType()),
			celgo.Variable(cel.ObjectVarName, obj.CelType()), celgo.Variable(cel.OldObjectVarName, obj.CelType()),
			celgo.Variable(cel.AuthorizerVarName, library.AuthorizerType), celgo.Variable(cel.RequestResourceAuthorizerVarName, library.ResourceCheckType),
		},
	}
	if hasParams {
		t := celgo.DynType
		if params != nil {
			o.DeclTypes, t = append(o.DeclTypes, params), params.CelType()
		}
		o.EnvOptions = append(o.EnvOptions, celgo.Variable(cel.ParamsVarName, t))
	}
	env, err := expression.Base().Extend(o)
	if err != nil {
		return err
	}
	c, err := cel.NewCompositedCompilerForTypeChecking(env)
	if err != nil {
		return err
	}
	c.Compiler = bare{c}
	compileVariables(c, variables, cel.OptionalVariableDeclarations{HasParams: hasParams, HasAuthorizer: true})
	if err := c.CompileCELExpression(untyped(text), cel.OptionalVariableDeclarations{}, environment.StoredExpressions).Error; err != nil {
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
