package admission

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

// OwnerReferencesPermissionEnforcement lets only those change what an object is
// deleted with who may delete it, and only those block an owner's deletion who
// may set the owner's finalizers. It is off unless asked for.
type OwnerReferencesPermissionEnforcement struct {
	Client     client.Client
	Authorizer authorizer.UnconditionalAuthorizer
}

// Name implements Plugin.
func (OwnerReferencesPermissionEnforcement) Name() string {
	return "OwnerReferencesPermissionEnforcement"
}

// Validate implements Validator.
func (r OwnerReferencesPermissionEnforcement) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create && a.Operation != resource.Update || a.Definition.GR() == podResource && a.Subresource == "status" {
		return nil
	}
	o, ok := a.Object.(object.Object)
	if !ok {
		return nil
	}
	var before []metav1.OwnerReference
	if a.Old != nil {
		before = a.Old.GetOwnerReferences()
	}
	now := o.GetOwnerReferences()
	if len(now) == len(before) && (len(now) == 0 || equality.Semantic.DeepEqual(now, before)) {
		return nil
	}
	ask := authorizer.AttributesRecord{
		User: a.User, Verb: "delete", Namespace: a.Namespace, APIGroup: a.Definition.Group, APIVersion: a.Definition.Version,
		Resource: a.Definition.Resource, Subresource: a.Subresource, Name: a.Name, ResourceRequest: true,
	}
	if decision, reason, err := r.Authorizer.Authorize(ctx, ask); decision != authorizer.DecisionAllow {
		return refuse(a, fmt.Errorf("cannot set an ownerRef on a resource you can't delete: %v, %v", reason, err))
	}
	for _, ref := range now {
		if ref.BlockOwnerDeletion == nil || !*ref.BlockOwnerDeletion || slices.ContainsFunc(before, func(b metav1.OwnerReference) bool {
			return b.UID == ref.UID && b.BlockOwnerDeletion != nil && *b.BlockOwnerDeletion
		}) {
			continue
		}
		gv, err := schema.ParseGroupVersion(ref.APIVersion)
		d := r.Client.Scheme().ByKind(gv.WithKind(ref.Kind))
		if err != nil || d == nil {
			return refuse(a, fmt.Errorf("cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %s Kind %s", ref.APIVersion, ref.Kind))
		}
		ask := authorizer.AttributesRecord{
			User: a.User, Verb: "update", APIGroup: d.Group, APIVersion: gv.Version, Resource: d.Resource,
			Subresource: "finalizers", Name: ref.Name, ResourceRequest: true,
		}
		if d.Namespaced {
			ask.Namespace = a.Namespace
		}
		if decision, reason, err := r.Authorizer.Authorize(ctx, ask); decision != authorizer.DecisionAllow {
			return refuse(a, fmt.Errorf("cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %v, %v", reason, err))
		}
	}
	return nil
}
