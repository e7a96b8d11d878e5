package policy

import (
	"context"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

// ParamAccess lets only those make policies and bindings with params who may
// read these: the server reads params with its own rights, and what a policy
// says of them would tell its author what is in them.
type ParamAccess struct {
	Client     client.Client
	Authorizer authorizer.UnconditionalAuthorizer
}

// Name implements admission.Plugin.
func (ParamAccess) Name() string { return "AdmissionPolicyParamAccess" }

// Validate implements admission.Validator.
func (p ParamAccess) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Definition.Group != admissionregistrationv1.GroupName || a.Subresource != "" || a.Object == nil || p.Authorizer == nil ||
		a.User == nil || slices.Contains(a.User.GetGroups(), user.SystemPrivilegedGroup) {
		return nil
	}
	switch o := a.Object.(type) {
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		return p.kind(ctx, a, o.Spec.ParamKind, func(old runtime.Object) *admissionregistrationv1.ParamKind {
			return old.(*admissionregistrationv1.ValidatingAdmissionPolicy).Spec.ParamKind
		})
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		return p.kind(ctx, a, o.Spec.ParamKind, func(old runtime.Object) *admissionregistrationv1.ParamKind {
			return old.(*admissionregistrationv1.MutatingAdmissionPolicy).Spec.ParamKind
		})
	case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
		if old, ok := a.Old.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding); ok &&
			old.Spec.PolicyName == o.Spec.PolicyName && equality.Semantic.DeepEqual(old.Spec.ParamRef, o.Spec.ParamRef) {
			return nil
		}
		return p.reference(ctx, a, object.Of[*admissionregistrationv1.ValidatingAdmissionPolicy](p.Client.Scheme()), o.Spec.PolicyName, o.Spec.ParamRef)
	case *admissionregistrationv1.MutatingAdmissionPolicyBinding:
		if old, ok := a.Old.(*admissionregistrationv1.MutatingAdmissionPolicyBinding); ok &&
			old.Spec.PolicyName == o.Spec.PolicyName && equality.Semantic.DeepEqual(old.Spec.ParamRef, o.Spec.ParamRef) {
			return nil
		}
		return p.reference(ctx, a, object.Of[*admissionregistrationv1.MutatingAdmissionPolicy](p.Client.Scheme()), o.Spec.PolicyName, o.Spec.ParamRef)
	}
	return nil
}

// kind asks whether the author of a policy may read all objects of its
// paramKind.
func (p ParamAccess) kind(ctx context.Context, a *resource.Attributes, k *admissionregistrationv1.ParamKind, of func(runtime.Object) *admissionregistrationv1.ParamKind) error {
	if k == nil || a.Old != nil && equality.Semantic.DeepEqual(of(a.Old), k) {
		return nil
	}
	ask := p.about(k)
	ask.Verb, ask.Name, ask.Namespace = "get", "*", "*"
	return p.ask(ctx, a, ask, field.NewPath("spec", "paramKind"),
		fmt.Sprintf("user %v must have \"get\" permission on all objects of the referenced paramKind (kind=%s, apiVersion=%s)", a.User.GetName(), k.Kind, k.APIVersion))
}

// reference asks whether the author of a binding may read what its paramRef
// names. When the policy is not there yet, that may be of any kind.
func (p ParamAccess) reference(ctx context.Context, a *resource.Attributes, d *object.Definition, policy string, ref *admissionregistrationv1.ParamRef) error {
	if ref == nil {
		return nil
	}
	var k *admissionregistrationv1.ParamKind
	if o, err := p.Client.Get(ctx, d, "", policy); err == nil {
		switch o := o.(type) {
		case *admissionregistrationv1.ValidatingAdmissionPolicy:
			k = o.Spec.ParamKind
		case *admissionregistrationv1.MutatingAdmissionPolicy:
			k = o.Spec.ParamKind
		}
	}
	ask := p.about(k)
	ask.Verb, ask.Name, ask.Namespace = "get", ref.Name, ref.Namespace
	if ref.Name == "" {
		ask.Verb = "list"
	}
	return p.ask(ctx, a, ask, field.NewPath("spec", "paramRef"),
		fmt.Sprintf("user %v does not have %q permission on the object referenced by paramRef", a.User.GetName(), ask.Verb))
}

// about is a question about the resource of a kind: of all that it could be,
// when it is not known.
func (p ParamAccess) about(k *admissionregistrationv1.ParamKind) authorizer.AttributesRecord {
	r := authorizer.AttributesRecord{ResourceRequest: true, APIGroup: "*", APIVersion: "*", Resource: "*"}
	if k == nil {
		return r
	}
	gv, err := schema.ParseGroupVersion(k.APIVersion)
	if err != nil {
		return r
	}
	r.APIGroup, r.APIVersion = gv.Group, gv.Version
	if d := p.Client.Scheme().ByKind(gv.WithKind(k.Kind)); d != nil {
		r.Resource = d.Resource
	}
	return r
}

func (p ParamAccess) ask(ctx context.Context, a *resource.Attributes, r authorizer.AttributesRecord, at *field.Path, text string) error {
	r.User = a.User
	decision, _, err := p.Authorizer.Authorize(ctx, r)
	if err == nil && decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		text = err.Error()
	}
	return apierrors.NewInvalid(a.Definition.GVK().GroupKind(), a.Name, field.ErrorList{field.Forbidden(at, text)})
}
