package hooks

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/runtime"
)

// Devices prepares what pods get through resource claims.
type Devices interface {
	Prepare(ctx context.Context, p *corev1.Pod) error
	Unprepare(ctx context.Context, pod types.UID) error
	// Devices names the devices that a container gets, Inject gives them to it.
	Devices(p *corev1.Pod, c *corev1.Container) ([]string, error)
	Inject(c *runtime.Container, ids []string) error
}

// devicesStep guarantees that the drivers have prepared the devices of the pod's
// claims. Its tear-down has them released.
type devicesStep struct{ s *Steps }

func (devicesStep) Name() string { return "devices" }

// DevicesError says that devices could not be prepared.
type DevicesError struct{ Err error }

// Error reads as upstream's event does.
func (e *DevicesError) Error() string {
	return fmt.Sprintf("Failed to prepare dynamic resources: %v", e.Err)
}

// Unwrap is the cause.
func (e *DevicesError) Unwrap() error { return e.Err }

func (d devicesStep) SetUp(ctx context.Context, p *Pod) error {
	if len(p.Spec.ResourceClaims) == 0 && p.Status.ExtendedResourceClaimStatus == nil {
		return nil
	}
	if d.s.Devices == nil {
		return &DevicesError{fmt.Errorf("resource claims are not supported by this node")}
	}
	if err := d.s.Devices.Prepare(ctx, p.Pod); err != nil {
		return &DevicesError{err}
	}
	return nil
}

func (d devicesStep) TearDown(ctx context.Context, id Ident) error {
	if d.s.Devices == nil {
		return nil
	}
	return d.s.Devices.Unprepare(ctx, id.UID)
}

// inject gives a container what its claims got.
func (s *Steps) inject(r *Run) error {
	if len(r.Member.Resources.Claims) == 0 && r.Pod.Status.ExtendedResourceClaimStatus == nil {
		return nil
	}
	if s.Devices == nil {
		return fmt.Errorf("resource claims are not supported by this node")
	}
	ids, err := s.Devices.Devices(r.Pod.Pod, r.Member.Container)
	if err != nil {
		return err
	}
	return s.Devices.Inject(&r.Spec, ids)
}
