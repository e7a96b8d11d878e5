package resource

import (
	"context"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
)

// Fields of features that are off in this version of Kubernetes are dropped
// where they come in, as upstream does, so that nobody builds on them. What has none
// is not written to: parts of it may belong to published objects.

func dropFromClaim(s *resourcev1.ResourceClaimSpec) {
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if r.Exactly != nil && r.Exactly.DerivedAttributes != nil {
			r.Exactly.DerivedAttributes = nil
		}
		for j := range r.FirstAvailable {
			if f := &r.FirstAvailable[j]; f.DerivedAttributes != nil {
				f.DerivedAttributes = nil
			}
		}
	}
}

func prepareClaim(_ context.Context, c *resourcev1.ResourceClaim) {
	c.Status = resourcev1.ResourceClaimStatus{}
	dropFromClaim(&c.Spec)
}

func prepareSlice(_ context.Context, s *resourcev1.ResourceSlice) {
	s.Spec.PartitionTypeAttribute, s.Spec.SkipNodeOperations = nil, nil
	for i := range s.Spec.Devices {
		d := &s.Spec.Devices[i]
		if d.NodeAllocatableResources != nil {
			d.NodeAllocatableResources = nil
		}
		for j := range d.ConsumesCounters {
			if c := &d.ConsumesCounters[j]; c.CompatibilityGroups != nil {
				c.CompatibilityGroups = nil
			}
		}
		for name, a := range d.Attributes {
			if a.IntValues != nil || a.BoolValues != nil || a.StringValues != nil || a.VersionValues != nil {
				a.IntValues, a.BoolValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
				d.Attributes[name] = a
			}
		}
	}
}

func prepareSliceUpdate(ctx context.Context, s, _ *resourcev1.ResourceSlice) { prepareSlice(ctx, s) }

// prepareClaimStatus drops from a status what belongs to no device any more, and
// what is off.
func prepareClaimStatus(ctx context.Context, c, old *resourcev1.ResourceClaim) {
	dropGivenBack(ctx, c, old)
	if a := c.Status.Allocation; a != nil && old.Status.Allocation == nil &&
		slices.ContainsFunc(a.Devices.Results, func(r resourcev1.DeviceRequestAllocationResult) bool { return r.SkipNodeOperations != nil }) {
		for i := range a.Devices.Results {
			a.Devices.Results[i].SkipNodeOperations = nil
		}
	}
}
