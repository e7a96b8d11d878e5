package plugins

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"sagong/client"
	"sagong/object"
	"sagong/scheduler/state"
)

// Binds implements PreBinder.
func (b VolumeBinding) Binds(p *corev1.Pod, _ string) bool {
	for _, key := range state.Claims(p) {
		if c, ok := b.claims.Get(key.Namespace, key.Name); !ok || !bound(c) {
			return true
		}
	}
	return false
}

// PreBind implements PreBinder: it writes what Reserve decided, and waits until
// the pod's claims are bound.
func (b VolumeBinding) PreBind(ctx context.Context, p *corev1.Pod, node string) error {
	limit := b.Timeout
	if limit <= 0 {
		limit = defaultBindLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	keys := state.Claims(p)
	news := make(chan struct{}, 1)
	b.mu.Lock()
	for _, k := range keys {
		if b.waiters[k] == nil {
			b.waiters[k] = map[chan<- struct{}]bool{}
		}
		b.waiters[k][news] = true
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, k := range keys {
			if delete(b.waiters[k], news); len(b.waiters[k]) == 0 {
				delete(b.waiters, k)
			}
		}
	}()
	for _, k := range keys {
		if err := b.write(ctx, k, node); err != nil {
			return fmt.Errorf("binding volumes: %w", err)
		}
	}
	for {
		done, err := b.allBound(p, keys, node)
		if err != nil {
			return fmt.Errorf("binding volumes: %w", err)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("binding volumes: %w", ctx.Err())
		case <-news:
		}
	}
}

// write reserves the chosen volume for a claim, or asks for one to be made. Of
// pods that share a claim the first does it.
func (b VolumeBinding) write(ctx context.Context, key state.Claim, node string) error {
	c, ok := b.claims.Get(key.Namespace, key.Name)
	b.mu.Lock()
	a := b.assumed[key]
	if a == nil || a.written || !ok || bound(c) {
		b.mu.Unlock()
		return nil
	}
	a.written = true
	b.mu.Unlock()
	asked, err := b.ask(ctx, a.volume, c, node)
	b.mu.Lock()
	defer b.mu.Unlock()
	a.asked, a.written = asked, err == nil
	return err
}

// ask writes a volume, or a claim, of which it returns the revision.
func (b VolumeBinding) ask(ctx context.Context, name string, c *corev1.PersistentVolumeClaim, node string) (object.Revision, error) {
	if name != "" {
		v, ok := b.volumes.Get("", name)
		if !ok {
			return 0, fmt.Errorf("failed to get pv %q from cache", name)
		}
		next, changed, err := volume.GetBindVolumeToClaim(v, c)
		if err != nil || !changed {
			return 0, err
		}
		_, err = client.Update(ctx, b.deps.Client, next)
		return 0, err
	}
	if c.Annotations[volume.AnnSelectedNode] == node {
		return object.RevisionOf(c), nil
	}
	next := c.DeepCopy()
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnSelectedNode, node)
	next, err := client.Update(ctx, b.deps.Client, next)
	if err != nil {
		return 0, err
	}
	return object.RevisionOf(next), nil
}

// allBound says whether a pod's claims are bound, or why they will not be.
func (b VolumeBinding) allBound(p *corev1.Pod, keys []state.Claim, node string) (bool, error) {
	done := true
	for _, key := range keys {
		name := key.Namespace + "/" + key.Name
		c, ok := b.claims.Get(key.Namespace, key.Name)
		if !ok {
			return false, fmt.Errorf("could not find claim %q", name)
		}
		if bound(c) {
			continue
		}
		done = false
		a := b.assumption(key)
		switch {
		case a == nil:
			return false, fmt.Errorf("claim %q of pod %q was given up", name, p.Name)
		case a.volume != "":
			if v, ok := b.volumes.Get("", a.volume); !ok || v.Spec.ClaimRef != nil && !volume.IsVolumeBoundToClaim(v, c) {
				return false, fmt.Errorf("volume %q was bound to another claim", a.volume)
			}
		case a.asked == 0 || object.RevisionOf(c) < a.asked:
		case c.Annotations[volume.AnnSelectedNode] == "":
			return false, fmt.Errorf("provisioning failed for PVC %q", c.Name)
		case c.Annotations[volume.AnnSelectedNode] != node:
			return false, fmt.Errorf("selectedNode annotation value %q not set to scheduled node %q", c.Annotations[volume.AnnSelectedNode], node)
		}
	}
	return done, nil
}
