package crd

import (
	"context"
	"crypto/x509"
	"fmt"
	"reflect"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// controller brings definitions into service and out of it: names, conditions,
// and the deletion of their objects.
type controller struct {
	registry *Registry
	view     *reconcile.View[*apiextensionsv1.CustomResourceDefinition]
	now      func() time.Time
}

// NewController makes the controller of definitions; their kinds are served by g.
func NewController(h *reconcile.Hub, g *Registry) reconcile.Controller {
	return &controller{registry: g, view: reconcile.ViewOf[*apiextensionsv1.CustomResourceDefinition](h), now: time.Now}
}

func (*controller) Name() string { return "customresourcedefinition" }

// Workers implements reconcile.Workers: names are given out one at a time.
func (*controller) Workers() int { return 1 }

func (c *controller) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(c.view, func(old, crd *apiextensionsv1.CustomResourceDefinition, enqueue func(object.Key)) {
		if crd != nil {
			enqueue(object.KeyOf(crd))
		}
		// Names that became free may be what others wait for.
		if old == nil || crd != nil && reflect.DeepEqual(old.Status.AcceptedNames, crd.Status.AcceptedNames) {
			return
		}
		for _, other := range c.view.All() {
			if other.Spec.Group == old.Spec.Group && other.Name != old.Name {
				enqueue(object.KeyOf(other))
			}
		}
	})}
}

func (*controller) Outputs() []reconcile.Output {
	kind := schema.GroupKind{Group: apiextensionsv1.GroupName, Kind: "CustomResourceDefinition"}
	return []reconcile.Output{{Kind: kind, Field: "status"}, {Kind: kind, Field: "the cleanup finalizer"}}
}

func (c *controller) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	crd, ok := c.view.Get("", key.Name)
	if !ok {
		c.registry.remove(key.Name)
		return reconcile.Result{}, nil
	}
	if crd.DeletionTimestamp != nil {
		return c.end(ctx, w, crd)
	}
	next := crd.DeepCopy()
	var cond apiextensionsv1.CustomResourceDefinitionCondition
	next.Status.AcceptedNames, cond = accept(crd, taken(c.view.All(), crd.Spec.Group, crd.Name))
	c.set(next, cond)
	if cond := structuralCondition(crd); cond != nil {
		c.set(next, *cond)
	} else {
		apihelpers.RemoveCRDCondition(next, apiextensionsv1.NonStructuralSchema)
	}
	if cond := approvalCondition(crd); cond != nil {
		c.set(next, *cond)
	}
	accepted := cond.Status == apiextensionsv1.ConditionTrue
	established := apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established)
	switch {
	case established, accepted && bundleReadable(crd):
		// First served, then said to be.
		if err := c.registry.serve(crd, next.Status.AcceptedNames); err != nil {
			c.set(next, apiextensionsv1.CustomResourceDefinitionCondition{
				Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "NotAccepted", Message: err.Error(),
			})
		} else if !established {
			c.set(next, apiextensionsv1.CustomResourceDefinitionCondition{
				Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue, Reason: "InitialNamesAccepted", Message: "the initial names have been accepted",
			})
		}
	case accepted:
		c.set(next, apiextensionsv1.CustomResourceDefinitionCondition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "InvalidCABundle", Message: "The conversion webhook CABundle is invalid",
		})
	default:
		c.set(next, apiextensionsv1.CustomResourceDefinitionCondition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse, Reason: "NotAccepted", Message: "not all names are accepted",
		})
	}
	return reconcile.Result{}, c.write(ctx, w, crd, next)
}

// set changes a condition, unless it says the same already.
func (c *controller) set(crd *apiextensionsv1.CustomResourceDefinition, cond apiextensionsv1.CustomResourceDefinitionCondition) {
	since := metav1.NewTime(c.now().Truncate(time.Second)) // as the stored form has it
	if old := apihelpers.FindCRDCondition(crd, cond.Type); old != nil {
		if apihelpers.IsCRDConditionEquivalent(old, &cond) {
			return
		}
		if old.Status == cond.Status {
			since = old.LastTransitionTime
		}
	}
	apihelpers.SetCRDCondition(crd, cond)
	apihelpers.FindCRDCondition(crd, cond.Type).LastTransitionTime = since
}

func (c *controller) write(ctx context.Context, w client.Client, old, next *apiextensionsv1.CustomResourceDefinition) error {
	if reflect.DeepEqual(old.Status, next.Status) && reflect.DeepEqual(old.Finalizers, next.Finalizers) {
		return nil
	}
	_, err := w.Update(ctx, c.view.Definition(), next, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// bundleReadable says whether conversion webhooks could be trusted.
func bundleReadable(crd *apiextensionsv1.CustomResourceDefinition) bool {
	conv := crd.Spec.Conversion
	if conv == nil || conv.Webhook == nil || conv.Webhook.ClientConfig == nil || len(conv.Webhook.ClientConfig.CABundle) == 0 {
		return true
	}
	return x509.NewCertPool().AppendCertsFromPEM(conv.Webhook.ClientConfig.CABundle)
}

// structuralCondition says what keeps a definition's schemas from being
// structural; nil when nothing does.
func structuralCondition(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinitionCondition {
	cond := &apiextensionsv1.CustomResourceDefinitionCondition{Type: apiextensionsv1.NonStructuralSchema, Status: apiextensionsv1.ConditionUnknown}
	var errs field.ErrorList
	if crd.Spec.PreserveUnknownFields {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false"))
	}
	for i, v := range crd.Spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		in := &internal.CustomResourceValidation{}
		if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema.DeepCopy(), in, nil); err != nil {
			continue
		}
		ss, err := structural.NewStructural(in.OpenAPIV3Schema)
		if err != nil {
			cond.Reason, cond.Message = "StructuralError", fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err)
			return cond
		}
		errs = append(errs, structural.ValidateStructural(field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema"), ss)...)
	}
	if len(errs) == 0 {
		return nil
	}
	cond.Status, cond.Reason, cond.Message = apiextensionsv1.ConditionTrue, "Violations", errs.ToAggregate().Error()
	return cond
}

// approvalCondition is about groups of the Kubernetes project; nil for others.
func approvalCondition(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinitionCondition {
	if !apihelpers.IsProtectedCommunityGroup(crd.Spec.Group) {
		return nil
	}
	state, reason := apihelpers.GetAPIApprovalState(crd.Annotations)
	cond := &apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.KubernetesAPIApprovalPolicyConformant, Status: apiextensionsv1.ConditionFalse, Message: reason,
	}
	switch state {
	case apihelpers.APIApprovalInvalid:
		cond.Reason = "InvalidAnnotation"
	case apihelpers.APIApprovalMissing:
		cond.Reason = "MissingAnnotation"
	case apihelpers.APIApproved:
		cond.Status, cond.Reason = apiextensionsv1.ConditionTrue, "ApprovedAnnotation"
	case apihelpers.APIApprovalBypassed:
		cond.Reason = "UnapprovedAnnotation"
	default:
		cond.Status, cond.Reason = apiextensionsv1.ConditionUnknown, "UnknownAnnotation"
	}
	return cond
}
