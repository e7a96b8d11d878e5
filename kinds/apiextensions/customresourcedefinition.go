// Package apiextensions defines the kinds of the group apiextensions.k8s.io: the
// definitions of kinds made at run time.
package apiextensions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// CustomResourceDefinition defines apiextensions.k8s.io/v1 CustomResourceDefinition.
func CustomResourceDefinition() *object.Definition {
	return object.Kind[*apiextensionsv1.CustomResourceDefinition]{
		Group: apiextensionsv1.GroupName, Version: "v1", Kind: "CustomResourceDefinition", Resource: "customresourcedefinitions",
		ShortNames: []string{"crd", "crds"}, Categories: []string{"api-extensions"},
		Status: true, Generation: true,
		New:     func() *apiextensionsv1.CustomResourceDefinition { return &apiextensionsv1.CustomResourceDefinition{} },
		NewList: func() runtime.Object { return &apiextensionsv1.CustomResourceDefinitionList{} },
		Columns: []object.TypedColumn[*apiextensionsv1.CustomResourceDefinition]{
			object.NameColumn[*apiextensionsv1.CustomResourceDefinition](),
			object.CreatedAtColumn[*apiextensionsv1.CustomResourceDefinition](),
		},
		Default: defaultDefinition,
		PrepareCreate: func(_ context.Context, c *apiextensionsv1.CustomResourceDefinition) {
			c.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
			keepStorageVersion(c)
		},
		PrepareUpdate: func(_ context.Context, c, _ *apiextensionsv1.CustomResourceDefinition) { keepStorageVersion(c) },
		NameRule:      nil, // the name is compared with the spec's names
		Validate:      validateDefinition,
		ValidateUpdate: func(c, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
			return validateDefinitionUpdate(c, old)
		},
		ValidateStatusUpdate: func(c, _ *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
			return validateNames(namesOf(&c.Status.AcceptedNames), field.NewPath("status", "acceptedNames"))
		},
		RefuseUnconditionalUpdate: true,
		Warnings:                  warnings,
		BeginDelete:               beginDelete,
	}.Definition()
}

func defaultDefinition(c *apiextensionsv1.CustomResourceDefinition) {
	names := &c.Spec.Names
	if names.Singular == "" {
		names.Singular = strings.ToLower(names.Kind)
	}
	if names.ListKind == "" && names.Kind != "" {
		names.ListKind = names.Kind + "List"
	}
	if c.Spec.Conversion == nil {
		c.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}
	}
	if w := c.Spec.Conversion.Webhook; w != nil && w.ClientConfig != nil && w.ClientConfig.Service != nil {
		fill.Ptr(&w.ClientConfig.Service.Port, 443)
	}
	if len(c.Status.StoredVersions) == 0 {
		keepStorageVersion(c)
	}
}

// keepStorageVersion notes that objects may be stored in the storage version.
// The list is replaced, never appended to: it may be shared.
func keepStorageVersion(c *apiextensionsv1.CustomResourceDefinition) {
	for _, v := range c.Spec.Versions {
		if v.Storage {
			if stored := c.Status.StoredVersions; !slices.Contains(stored, v.Name) {
				c.Status.StoredVersions = append(slices.Clip(stored), v.Name)
			}
			return
		}
	}
}

// beginDelete keeps a definition until its objects are gone.
func beginDelete(c *apiextensionsv1.CustomResourceDefinition) {
	if !apihelpers.CRDHasFinalizer(c, apiextensionsv1.CustomResourceCleanupFinalizer) {
		c.Finalizers = append(slices.Clip(c.Finalizers), apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	c.Status.Conditions = slices.Clone(c.Status.Conditions)
	apihelpers.SetCRDCondition(c, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionPending",
		Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
	})
	// The stored form has whole seconds.
	for i := range c.Status.Conditions {
		at := &c.Status.Conditions[i].LastTransitionTime
		*at = at.Rfc3339Copy()
	}
}

// toInternal gives the form that the libraries for schemas take. In it, what all
// versions have in common stands at the top, which is why errors name
// "spec.validation" for a definition of one version.
func toInternal(c *apiextensionsv1.CustomResourceDefinition) (*internal.CustomResourceDefinition, error) {
	out := &internal.CustomResourceDefinition{}
	// Converting shares memory and fills in JSON values: work on a copy.
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(c.DeepCopy(), out, nil); err != nil {
		return nil, fmt.Errorf("cannot read the schemas: %w", err)
	}
	return out, nil
}

func namesOf(n *apiextensionsv1.CustomResourceDefinitionNames) *internal.CustomResourceDefinitionNames {
	return &internal.CustomResourceDefinitionNames{
		Plural: n.Plural, Singular: n.Singular, ShortNames: n.ShortNames, Kind: n.Kind, ListKind: n.ListKind, Categories: n.Categories,
	}
}
