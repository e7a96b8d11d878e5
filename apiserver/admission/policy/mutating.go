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
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/resource"
	"sagong/kinds/expression"
	"sagong/reconcile"
)

// mutations are a MutatingAdmissionPolicy, compiled.
type mutations struct {
	conditions *match.Conditions // nil when there are none
	patchers   []patch.Patcher
	compiler   *cel.CompositedCompiler
	again      bool
}

func compileMutations(name string, s *admissionregistrationv1.MutatingAdmissionPolicySpec, m *match.Metrics) (*mutations, error) {
	c, err := expression.Composing()
	if err != nil {
		return nil, err
	}
	d := cel.OptionalVariableDeclarations{HasParams: s.ParamKind != nil, HasAuthorizer: true}
	compileVariables(c, s.Variables, d)
	out := &mutations{compiler: c, again: s.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy}
	out.conditions = conditionsOf(c, name, s.MatchConditions, s.FailurePolicy, d, m)
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
}

// types tell the patchers how the built-in kinds are encoded.
var types = sync.OnceValue(func() admission.ObjectInterfaces {
	s := runtime.NewScheme()
	utilruntime.Must(clientscheme.AddToScheme(s))
	utilruntime.Must(apiextensionsv1.AddToScheme(s))
	utilruntime.Must(apiregistrationv1.AddToScheme(s))
	return admission.NewObjectInterfacesFromScheme(s)
})

// NewMutating follows the policies in the hub.
func NewMutating(hub *reconcile.Hub, o Options) *Mutating {
	m := &Mutating{
		Options: o, policies: reconcile.ViewOf[*admissionregistrationv1.MutatingAdmissionPolicy](hub),
		bindings: reconcile.ViewOf[*admissionregistrationv1.MutatingAdmissionPolicyBinding](hub),
	}
	m.rules.scheme = o.Client.Scheme()
	m.policies.OnChange(func(old, now *admissionregistrationv1.MutatingAdmissionPolicy) {
		if now == nil {
			m.rules.setPolicy(old.Name, nil)
			return
		}
		m.rules.setPolicy(now.Name, &rule[*mutations]{
			name: now.Name, constraints: newCriteria(now.Spec.MatchConstraints), params: newParamKind(now.Spec.ParamKind), ignore: match.Ignores(now.Spec.FailurePolicy),
			evaluator: sync.OnceValues(func() (*mutations, error) { return compileMutations(now.Name, &now.Spec, o.Conditions) }),
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
		f.err = apierrors.NewForbidden(f.Resource.GroupResource(), f.ObjectName(), err)
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
	r, ok := match.New(m.Client.Scheme(), a, match.Policies)
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
		authz := m.asked()
		patched := false
		for i := range invocations {
			did, err := m.invoke(ctx, &invocations[i], f, ns, authz, again)
			if err != nil {
				return err
			}
			patched = patched || did
		}
		if patched {
			again.Patched()
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
	if p.params != nil {
		if _, _, err := p.params.find(m.Client.Scheme()); err != nil {
			f.add(p, nil, configuration(nil, err), "")
			return out
		}
	}
	for _, b := range p.bindings {
		_, ok, err := b.match.match(ctx, m.Client, f.Request)
		if err == nil && !ok {
			continue
		}
		var list []runtime.Object
		var c *mutations
		if err == nil {
			list, err = params(ctx, m.Client, p.params, b.params, f.Namespace, false)
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

// invoke applies the mutations of one invocation, in order, and says whether
// there were any that could be. An error is one that ends the write whatever the
// failure policy.
func (m *Mutating) invoke(ctx context.Context, i *invocation, f *refusals, ns *corev1.Namespace, authz authorizer.UnconditionalAuthorizer, again *match.Rounds) (patched bool, _ error) {
	r := f.Request
	ctx = i.compiler.CreateContext(ctx)
	write, err := r.Versioned(i.target)
	if err != nil {
		f.add(i.rule, nil, configuration(nil, err), "")
		return false, nil
	}
	if i.conditions != nil {
		ok, err := i.conditions.Hold(ctx, write, i.param, authz)
		if err != nil {
			f.add(i.rule, i.binding, err, metav1.StatusReasonInvalid)
			return false, nil
		}
		if !ok {
			return false, nil
		}
	}
	if !again.Due(i.id()) || r.Object == nil {
		return false, nil
	}
	before := r.Object.DeepCopyObject()
	for _, p := range i.patchers {
		begun := time.Now()
		err := m.patch(ctx, p, i, r, write, ns, authz)
		m.Metrics.mutating(i.name, i.binding.name, err, time.Since(begun))
		var status *apierrors.StatusError
		switch {
		case errors.As(err, &status):
			return false, status
		case err != nil:
			f.add(i.rule, i.binding, err, metav1.StatusReasonInvalid)
			continue
		}
		patched = true
		if write, err = r.Versioned(i.target); err != nil {
			return false, apierrors.NewInternalError(err)
		}
	}
	again.Done(i.id(), !equality.Semantic.DeepEqual(before, r.Object), i.again)
	return patched, nil
}

// patch applies one mutation.
func (m *Mutating) patch(ctx context.Context, p patch.Patcher, i *invocation, r *match.Request, write *admission.VersionedAttributes, ns *corev1.Namespace, authz authorizer.UnconditionalAuthorizer) error {
	converter, err := m.Fields.TypeConverter(r.Definition)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("Resource kind %s not found. There can be a delay between when CustomResourceDefinitions are created and when they are available.", i.target.Kind))
	}
	changed, err := p.Patch(ctx, patch.Request{
		MatchedResource: i.target.Resource, VersionedAttributes: write, ObjectInterfaces: types(), TypeConverter: converter,
		OptionalVariables: cel.OptionalVariableBindings{VersionedParams: i.param, Authorizer: authz},
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
	o, err := r.Decode(data, i.target.Kind)
	if err != nil {
		return err
	}
	var status *apierrors.StatusError
	if err := r.Set(o); err != nil && !errors.As(err, &status) {
		return apierrors.NewInternalError(fmt.Errorf("failed to convert object: %w", err))
	} else {
		return err
	}
}
