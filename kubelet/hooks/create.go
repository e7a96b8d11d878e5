package hooks

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/runtime"
)

// createStep guarantees that the runtime has recorded the container under its
// id, once: the id follows from pod, name and attempt, so that after a crash
// the same attempt is found and not made a second time.
type createStep struct{ s *Steps }

func (createStep) Name() string { return "create" }

func (c createStep) Do(ctx context.Context, r *Run) error {
	leave, err := c.s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	err = c.s.Runtime.CreateContainer(ctx, r.Spec)
	if errors.Is(err, runtime.ErrExists) {
		// Left by a start that was cut off before it ran.
		if err = c.s.Runtime.RemoveContainer(ctx, r.ID); err == nil {
			err = c.s.Runtime.CreateContainer(ctx, r.Spec)
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.s.event(r, corev1.EventTypeWarning, "Failed", "Error: %v", err)
		return &Failure{Reason: "CreateContainerError", Message: err.Error(), RetryAfter: 10 * time.Second, Err: err}
	}
	r.Created = true
	c.s.event(r, corev1.EventTypeNormal, "Created", "Container created")
	return nil
}
