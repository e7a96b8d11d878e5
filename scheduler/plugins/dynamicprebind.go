package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/scheduler/state"
)

// mostTries is how often a write that others overtake is tried again.
const mostTries = 5

// Binds implements PreBinder.
func (r DynamicResources) Binds(p *corev1.Pod, _ string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.reserved[p.UID]) > 0
}

// PreBind implements PreBinder: it writes what Reserve promised into the pod's
// claims, reserves them for the pod, and waits until their devices are ready.
func (r DynamicResources) PreBind(ctx context.Context, p *corev1.Pod, node string) error {
	r.mu.Lock()
	list := slices.Clone(r.reserved[p.UID])
	r.mu.Unlock()
	waits := false
	for _, x := range list {
		if x.make != nil && x.key.Name == "" {
			if err := r.create(ctx, p, x); err != nil {
				return err
			}
		}
		c, err := r.bind(ctx, p, x)
		if err != nil {
			return err
		}
		if x.make != nil {
			if err := r.tellPod(ctx, p, x); err != nil {
				return err
			}
		}
		if c.Status.Allocation != nil {
			waits = waits || slices.ContainsFunc(c.Status.Allocation.Devices.Results, func(a resourcev1.DeviceRequestAllocationResult) bool { return len(a.BindingConditions) > 0 })
		}
	}
	if !waits {
		return nil
	}
	r.deps.Events.Eventf(p, corev1.EventTypeNormal, "BindingConditionsPending", "waiting for binding conditions for device on node %s", node)
	return r.ready(ctx, list)
}

// bind reserves a claim for a pod, with its allocation if it has none yet.
func (r DynamicResources) bind(ctx context.Context, p *corev1.Pod, x *reservation) (*resourcev1.ResourceClaim, error) {
	for try := 1; ; try++ {
		c, err := r.write(ctx, p, x)
		if !apierrors.IsConflict(err) || try == mostTries {
			return c, err
		}
	}
}

func (r DynamicResources) write(ctx context.Context, p *corev1.Pod, x *reservation) (*resourcev1.ResourceClaim, error) {
	name := x.key.Namespace + "/" + x.key.Name
	c, err := client.Get[*resourcev1.ResourceClaim](ctx, r.deps.Client, x.key.Namespace, x.key.Name)
	if err != nil {
		return nil, fmt.Errorf("get claim %s: %w", name, err)
	}
	if c.DeletionTimestamp != nil || c.UID != x.uid {
		return nil, fmt.Errorf("claim %s got deleted in the meantime", name)
	}
	c = c.DeepCopy()
	if x.allocation != nil {
		if c.Status.Allocation != nil {
			return nil, fmt.Errorf("claim %s got allocated elsewhere in the meantime", name)
		}
		if !slices.Contains(c.Finalizers, resourcev1.Finalizer) {
			c.Finalizers = append(c.Finalizers, resourcev1.Finalizer)
			if c, err = client.Update(ctx, r.deps.Client, c); err != nil {
				return nil, fmt.Errorf("add finalizer to claim %s: %w", name, err)
			}
			c = c.DeepCopy()
		}
		c.Status.Allocation = x.allocation.DeepCopy()
	}
	switch {
	case c.Status.Allocation == nil:
		return nil, fmt.Errorf("claim %s got deallocated in the meantime", name)
	case slices.ContainsFunc(c.Status.ReservedFor, func(u resourcev1.ResourceClaimConsumerReference) bool { return u.UID == p.UID }):
		return c, nil
	case c.Status.Allocation.AllocationTimestamp == nil && x.allocation != nil:
		c.Status.Allocation.AllocationTimestamp = new(metav1.NewTime(r.deps.Now()))
	}
	c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	// Whoever takes the placement back from here on looks at the API.
	r.mu.Lock()
	x.wrote = true
	r.mu.Unlock()
	c, err = client.UpdateStatus(ctx, r.deps.Client, c)
	switch {
	case err != nil && x.allocation != nil:
		r.mu.Lock()
		x.wrote = x.make != nil || !refused(err)
		r.mu.Unlock()
		return nil, fmt.Errorf("add allocation and reservation to claim %s: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("add reservation to claim %s: %w", name, err)
	}
	if x.flight != nil {
		r.deps.Post(func() {
			x.flight.written = object.RevisionOf(c)
			if now := r.known[x.key]; now != nil && now.UID == x.uid && r.flights[x.uid] == x.flight {
				r.settle(now)
			}
		})
	}
	return c, nil
}

// refused tells errors that say that nothing was written from those that may
// hide a write.
func refused(err error) bool {
	var s apierrors.APIStatus
	return errors.As(err, &s) && s.Status().Code >= 400 && s.Status().Code < 500
}

// ready waits until the devices of claims are ready to be bound to.
func (r DynamicResources) ready(ctx context.Context, list []*reservation) error {
	ctx, cancel := context.WithTimeout(ctx, r.BindingTimeout)
	defer cancel()
	news := make(chan struct{}, 1)
	r.mu.Lock()
	for _, x := range list {
		if r.waiters[x.key] == nil {
			r.waiters[x.key] = map[chan<- struct{}]bool{}
		}
		r.waiters[x.key][news] = true
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, x := range list {
			if delete(r.waiters[x.key], news); len(r.waiters[x.key]) == 0 {
				delete(r.waiters, x.key)
			}
		}
	}()
	for {
		all := true
		for _, x := range list {
			c, err := client.Get[*resourcev1.ResourceClaim](ctx, r.deps.Client, x.key.Namespace, x.key.Name)
			if err != nil {
				return err
			}
			ok, err := readyToBind(c)
			if err != nil {
				return err
			}
			all = all && ok
		}
		if all {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return errors.New("device binding timeout")
			}
			return ctx.Err()
		case <-news:
		}
	}
}

// Bound implements PostBinder.
func (r DynamicResources) Bound(p *corev1.Pod) {
	r.mu.Lock()
	delete(r.reserved, p.UID)
	r.mu.Unlock()
}

// giveBack ends a pod's reservation of a claim in the API, and with the last one
// the allocation that was made for it. What fails is tried again when the pod is.
func (r DynamicResources) giveBack(p *corev1.Pod, x *reservation) {
	r.clearing.Go(func() {
		var seen object.Revision
		var err error
		for range mostTries {
			if seen, err = r.clear(context.Background(), p.UID, x); !apierrors.IsConflict(err) {
				break
			}
		}
		if err != nil && !apierrors.IsNotFound(err) {
			r.deps.Log.Warn("cannot take back the reservation of a claim", "claim", x.key.Namespace+"/"+x.key.Name, "pod", p.Namespace+"/"+p.Name, "err", err)
		}
		if x.flight == nil {
			return
		}
		// What the claim has from here on is what the API shows.
		r.deps.Post(func() {
			if r.flights[x.uid] != x.flight {
				return
			}
			x.flight.written = max(seen, 1)
			if c := r.known[x.key]; c != nil && c.UID == x.uid {
				r.settle(c)
			}
			r.version++
			r.changed()
		})
	})
}

// clear returns the revision of the claim as it found or left it.
func (r DynamicResources) clear(ctx context.Context, pod types.UID, x *reservation) (object.Revision, error) {
	c, err := client.Get[*resourcev1.ResourceClaim](ctx, r.deps.Client, x.key.Namespace, x.key.Name)
	if err != nil {
		return 0, err
	}
	if c.UID != x.uid || c.Status.Allocation == nil {
		return object.RevisionOf(c), nil
	}
	c = c.DeepCopy()
	had := len(c.Status.ReservedFor)
	c.Status.ReservedFor = slices.DeleteFunc(c.Status.ReservedFor, func(u resourcev1.ResourceClaimConsumerReference) bool { return u.UID == pod })
	last := len(c.Status.ReservedFor) == 0 && x.allocation != nil
	if last {
		c.Status.ReservedFor, c.Status.Allocation, c.Status.Devices = nil, nil, nil
	}
	if !last && len(c.Status.ReservedFor) == had {
		return object.RevisionOf(c), nil
	}
	if c, err = client.UpdateStatus(ctx, r.deps.Client, c); err != nil {
		return 0, err
	}
	return object.RevisionOf(c), nil
}

// create makes the claim for a pod's extended resources. What was promised to it
// before it had a UID is the claim's from then on.
func (r DynamicResources) create(ctx context.Context, p *corev1.Pod, x *reservation) error {
	c := x.make.DeepCopy()
	c.UID = ""
	c, err := client.Create(ctx, r.deps.Client, c)
	if err != nil {
		return fmt.Errorf("create claim for extended resources %s/%s: %w", p.Namespace, x.make.GenerateName, err)
	}
	r.mu.Lock()
	x.key.Name, x.uid, x.wrote = c.Name, c.UID, true
	r.mu.Unlock()
	// This comes before the scheduler sees the claim with its allocation.
	r.deps.Post(func() {
		if r.flights[unmade(p.UID)] != x.flight {
			return
		}
		delete(r.flights, unmade(p.UID))
		r.take(unmade(p.UID), nil)
		r.flights[c.UID] = x.flight
		r.take(c.UID, x.flight.allocation)
	})
	return nil
}

// tellPod notes in a pod's status which claim its extended resources come from.
func (r DynamicResources) tellPod(ctx context.Context, p *corev1.Pod, x *reservation) error {
	for try := 1; ; try++ {
		now, err := client.Get[*corev1.Pod](ctx, r.deps.Client, p.Namespace, p.Name)
		if err == nil && now.UID != p.UID {
			err = apierrors.NewNotFound(corev1.Resource("pods"), p.Name)
		}
		if err == nil {
			now = now.DeepCopy()
			now.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{RequestMappings: x.mappings, ResourceClaimName: x.key.Name}
			_, err = client.UpdateStatus(ctx, r.deps.Client, now)
		}
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) || try == mostTries {
			return fmt.Errorf("update pod %s/%s ExtendedResourceClaimStatus: %w", p.Namespace, p.Name, err)
		}
	}
}

// discard deletes the claim that was made for the extended resources of a pod
// which is not bound. What it has is anybody's once that is seen.
func (r DynamicResources) discard(p *corev1.Pod, x *reservation) {
	r.clearing.Go(func() {
		r.deleteSpecial(p, x.key, x.uid)
		r.deps.Post(func() {
			if r.flights[x.uid] != x.flight || x.flight == nil {
				return
			}
			x.flight.written = max(x.flight.written, 1)
			if c := r.known[x.key]; c != nil && c.UID == x.uid {
				r.settle(c)
			}
			r.version++
			r.changed()
		})
	})
}

// discardStale deletes the claims that earlier attempts left for a pod.
func (r DynamicResources) discardStale(p *corev1.Pod) {
	for _, key := range r.specials[p.UID] {
		if c := r.known[key]; c != nil {
			r.clearing.Go(func() { r.deleteSpecial(p, key, c.UID) })
		}
	}
}

func (r DynamicResources) deleteSpecial(p *corev1.Pod, key state.Claim, uid types.UID) {
	ctx := context.Background()
	var err error
	for range mostTries {
		var c *resourcev1.ResourceClaim
		if c, err = client.Get[*resourcev1.ResourceClaim](ctx, r.deps.Client, key.Namespace, key.Name); err != nil || c.UID != uid {
			break
		}
		if slices.Contains(c.Finalizers, resourcev1.Finalizer) {
			c = c.DeepCopy()
			c.Finalizers = slices.DeleteFunc(c.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
			if _, err = client.Update(ctx, r.deps.Client, c); apierrors.IsConflict(err) {
				continue
			}
			if err != nil {
				break
			}
		}
		err = client.Delete[*resourcev1.ResourceClaim](ctx, r.deps.Client, key.Namespace, key.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(uid))})
		break
	}
	if err != nil && !apierrors.IsNotFound(err) {
		r.deps.Log.Warn("cannot delete the claim for extended resources", "claim", key.Namespace+"/"+key.Name, "pod", p.Namespace+"/"+p.Name, "err", err)
	}
}
