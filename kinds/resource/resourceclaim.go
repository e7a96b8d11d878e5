package resource

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// ResourceClaim defines resource.k8s.io/v1 ResourceClaim.
func ResourceClaim() *object.Definition {
	return object.Kind[*resourcev1.ResourceClaim]{
		Group: "resource.k8s.io", Version: "v1", Kind: "ResourceClaim", Resource: "resourceclaims", Namespaced: true, Status: true, StatusKeepsMetadata: true,
		New:     func() *resourcev1.ResourceClaim { return &resourcev1.ResourceClaim{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceClaimList{} },
		Columns: []object.TypedColumn[*resourcev1.ResourceClaim]{
			object.NameColumn[*resourcev1.ResourceClaim](),
			object.StringColumn("State", "A summary of the current state (allocated, pending, reserved, etc.).", claimState),
			object.AgeColumn[*resourcev1.ResourceClaim](),
		},
		Default:              func(c *resourcev1.ResourceClaim) { defaultClaim(&c.Spec) },
		PrepareCreate:        prepareClaim,
		PrepareStatusUpdate:  prepareClaimStatus,
		Validate:             validateClaim,
		ValidateUpdate:       validateClaimUpdate,
		ValidateStatusUpdate: validateClaimStatus,
	}.Definition()
}

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	if c.Status.Allocation == nil {
		if c.DeletionTimestamp == nil {
			states = append(states, "pending")
		}
	} else {
		states = append(states, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			states = append(states, "reserved")
		}
	}
	return strings.Join(states, ",")
}
