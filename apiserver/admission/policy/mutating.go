package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/resource"
	"sagong/kinds/expression"
	"sagong/reconcile"
)

// mutations are a MutatingAdmissionPolicy, compiled.
type mutations struct {
	conditions cel.ConditionEvaluator // nil when there are none
	patchers   []patch.Patcher
	compiler   *cel.CompositedCompiler
	again      bool
}

func compileMutations(s *admissionregistrationv1.MutatingAdmissionPolicySpec) (*mutations, error) {
	c, err := expression.Composing()
	if err != nil {
		return nil, err
	}
	d := cel.OptionalVariableDeclarations{HasParams: s.ParamKind != nil, HasAuthorizer: true}
	compileVariables(c, s.Variables, d)
	out := &mutations{compiler: c, again: s.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy}
	if len(s.MatchConditions) > 0 {
		out.conditions = expression.Conditions(c, s.MatchConditions, d)
	}
	d.HasPatchTypes = true
	for _, m := range s.Mutations {
		switch {
		case m.JSONPatch != nil:
			out.patchers = append(out.patchers, patch.NewJSONPatcher(
				c.CompileMutatingEvaluator(&expression.JSONPatch{Expression: m.JSONPatch.Expression}, d, environment.StoredExpressions)))
		case m.ApplyConfiguration != nil:
			out.patchers = append(out.patchers, patch.NewApplyConfigurationPatcher(
				c.CompileMutatingEvaluator(&expression.ApplyConfiguration{Expression: m.ApplyConfiguration.Expression}, d, environment.StoredExpressions)))
		}
	}
	return out, nil
}

// Mutating changes writes by MutatingAdmissionPolicies.
type Mutating struct {
	Options
	rules    rules[*mutations]
	policies *reconcile.View[*admissionregistrationv1.MutatingAdmissionPolicy]
	bindings *reconcile.View[*admissionregistrationv1.MutatingAdmissionPolicyBinding]
	// types tell the patchers how the built-in kinds are encoded.
	types admission.ObjectInterfaces
}

// NewMutating follows the policies in the hub.
func NewMutating(hub *reconcile.Hub, o Options) *Mutating {
	m := &Mutating{
		Options: o, policies: reconcile.ViewOf[*admissionregistrationv1.MutatingAdmissionPolicy](hub),
		bindings: reconcile.ViewOf[*admissionregistrationv1.MutatingAdmissionPolicyBinding](hub),
		types:    admission.NewObjectInterfacesFromScheme(clientscheme.Scheme),
	}
	m.policies.OnChange(func(old, now *admissionregistrationv1.MutatingAdmissionPolicy) {
		if now == nil {
			m.rules.setPolicy(old.Name, nil)
			return
		}
		m.rules.setPolicy(now.Name, &rule[*mutations]{
			name: now.Name, constraints: newCriteria(now.Spec.MatchConstraints), paramKind: now.Spec.ParamKind, ignore: match.Ignores(now.Spec.FailurePolicy),
			evaluator: sync.OnceValues(func() (*mutations, error) { return compileMutations(&now.Spec) }),
		})
	})
	m.bindings.OnChange(func(old, now *admissionregistrationv1.MutatingAdmissionPolicyBinding) {
		if now == nil {
			m.rules.setBinding(old.Name, "", nil)
			return
		}
		m.rules.setBinding(now.Name, now.Spec.PolicyName, &binding{name: now.Name, params: now.Spec.ParamRef, match: newCriteria(now.Spec.MatchResources)})
	})
	return m
}

// Name implements admission.Plugin.
func (m *Mutating) Name() string { return "MutatingAdmissionPolicy" }

// AsksAgain implements admission.Rounder.
func (m *Mutating) AsksAgain() {}

// Synced waits until all policies are known.
func (m *Mutating) Synced(ctx context.Context) error {
	return errors.Join(m.policies.Need(ctx), m.bindings.Need(ctx))
}

// invocation is one policy for one binding and param.
type invocation struct {
	*rule[*mutations]
	*mutations
	binding *binding
	target  match.Target
	param   runtime.Object
}

// id tells invocations of two rounds apart.
func (i *invocation) id() string {
	id := i.name + "/" + i.binding.name
	if o, ok := i.param.(metav1.Object); ok {
		id += "/" + o.GetNamespace() + "/" + o.GetName()
	}
	return id
}

// refusals are what policies have against a write.
type refusals struct {
	*match.Request
	err *apierrors.StatusError
}

// add notes an error of a policy; the client is told the first, and all as
// causes.
func (f *refusals) add(p *rule[*mutations], b *binding, err error, reason metav1.StatusReason) {
	if p.ignore {
		return
	}
	text := fmt.Sprintf("policy %q denied request: %v", p.name, err)
	if b != nil {
		text = fmt.Sprintf("policy '%s' with binding '%s' denied request: %v", p.name, b.name, err)
	}
	if f.err == nil {
		f.err = apierrors.NewForbidden(f.Definition.GR(), f.ObjectName(), err)
		f.err.ErrStatus.Message = text
		if reason != "" {
			f.err.ErrStatus.Reason = reason
		}
	}
	f.err.ErrStatus.Details.Causes = append(f.err.ErrStatus.Details.Causes, metav1.StatusCause{Message: text})
}

// Admit implements admission.Mutator. Which policies apply is decided on the
// object as it comes in; each then sees what those before it made of it.
func (m *Mutating) Admit(ctx context.Context, a *resource.Attributes) error {
	all := m.rules.now.Load()
	if all == nil || a.Operation == resource.Delete {
		return nil
	}
	r, ok := match.New(m.Client.Scheme(), a)
	if !ok {
		return nil
	}
	f := &refusals{Request: r}
	var invocations []invocation
	for _, p := range *all {
		invocations = m.choose(ctx, p, f, invocations)
	}
	if len(invocations) > 0 {
		ns, err := namespaceOf(ctx, m.Options, r)
		if err != nil {
			return err
		}
		again := match.RoundsOf(a, m.Name())
		for i := range invocations {
			if err := m.invoke(ctx, &invocations[i], f, ns, again); err != nil {
				return err
			}
		}
		again.End()
	}
	if f.err != nil {
		return f.err
	}
	return nil
}

// choose adds the invocations of one policy.
func (m *Mutating) choose(ctx context.Context, p *rule[*mutations], f *refusals, out []invocation) []invocation {
	t, ok, err := p.constraints.match(ctx, m.Client, f.Request)
	if err != nil {
		f.add(p, nil, configuration(nil, err), "")
		return out
	}
	if !ok {
		return out
	}
	for _, b := range p.bindings {
		_, ok, err := b.match.match(ctx, m.Client, f.Request)
		if err == nil && !ok {
			continue
		}
		var list []runtime.Object
		var c *mutations
		if err == nil {
			list, err = params(ctx, m.Client, p.paramKind, b.params, f.Namespace)
		}
		if err == nil {
			c, err = p.evaluator()
		}
		if err != nil {
			f.add(p, b, configuration(b, err), "")
			continue
		}
		for _, param := range list {
			out = append(out, invocation{p, c, b, t, param})
		}
	}
	return out
}

// invoke applies the mutations of one invocation, in order. An error is one that
// ends the write whatever the failure policy.
func (m *Mutating) invoke(ctx context.Context, i *invocation, f *refusals, ns *corev1.Namespace, again *match.Rounds) error {
	r := f.Request
	ctx = i.compiler.CreateContext(ctx)
	write, err := r.Versioned(i.target)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if i.conditions != nil {
		ok, _, err := match.Conditions(ctx, i.conditions, write, i.target, i.param, m.Authorizer, i.ignore)
		if err != nil {
			f.add(i.rule, i.binding, err, metav1.StatusReasonInvalid)
			return nil
		}
		if !ok {
			return nil
		}
	}
	if !again.Due(i.id()) || r.Object == nil {
		return nil
	}
	before := r.Object.DeepCopyObject()
	for _, p := range i.patchers {
		begun := time.Now()
		err := m.patch(ctx, p, i, r, write, ns)
		m.Metrics.mutating(i.name, i.binding.name, err, time.Since(begun))
		var status *apierrors.StatusError
		switch {
		case errors.As(err, &status):
			return status
		case err != nil:
			f.add(i.rule, i.binding, err, metav1.StatusReasonInvalid)
			continue
		}
		if write, err = r.Versioned(i.target); err != nil {
			return apierrors.NewInternalError(err)
		}
	}
	again.Done(i.id(), !equality.Semantic.DeepEqual(before, r.Object), i.again)
	return nil
}

// patch applies one mutation.
func (m *Mutating) patch(ctx context.Context, p patch.Patcher, i *invocation, r *match.Request, write *admission.VersionedAttributes, ns *corev1.Namespace) error {
	types, err := m.Fields.TypeConverter(r.Definition)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("Resource kind %s not found. There can be a delay between when CustomResourceDefinitions are created and when they are available.", i.target.Kind))
	}
	changed, err := p.Patch(ctx, patch.Request{
		MatchedResource: i.target.Resource, VersionedAttributes: write, ObjectInterfaces: m.types, TypeConverter: types,
		OptionalVariables: cel.OptionalVariableBindings{VersionedParams: i.param, Authorizer: m.Authorizer},
		Namespace:         cel.CreateNamespaceObject(ns),
	}, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return err
	}
	if changed == write.VersionedObject.Object() {
		return nil // a test of the patch did not hold
	}
	data, err := json.Marshal(changed)
	if err != nil {
		return err
	}
	return r.SetJSON(data, i.target.Kind)
}
