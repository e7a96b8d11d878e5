package plugins

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"sagong/object"
	"sagong/reconcile"
	"sagong/scheduler/state"
)

// Volumes is what the rules about volumes know together: the objects of storage,
// and what was decided for pods on their way to a node but not written or seen
// yet. Its methods may be called at the same time.
type Volumes struct {
	deps       Deps
	claims     *reconcile.View[*corev1.PersistentVolumeClaim]
	volumes    *reconcile.View[*corev1.PersistentVolume]
	classes    *reconcile.View[*storagev1.StorageClass]
	nodes      *reconcile.View[*storagev1.CSINode]
	drivers    *reconcile.View[*storagev1.CSIDriver]
	capacities *reconcile.View[*storagev1.CSIStorageCapacity]
	attached   *reconcile.View[*storagev1.VolumeAttachment]

	version atomic.Uint64

	mu      sync.Mutex
	started bool
	assumed map[state.Claim]*assumption
	taken   map[string]state.Claim // volumes by name
	waiters map[state.Claim]map[chan<- struct{}]bool
}

// assumption is what was decided for a claim: a volume that is there, or that
// one is to be made for a node.
type assumption struct {
	node   string
	volume string // "" to have one made
	pods   map[types.UID]bool
	// written says that the decision was, or is being, written; asked is the
	// revision at which the claim asks for a volume.
	written bool
	asked   object.Revision
}

const (
	freeVolumes  = "scheduler.free"  // by class
	claimVolumes = "scheduler.claim" // by "namespace/claim"
	attachedTo   = "scheduler.node"  // attachments by node
)

// NewVolumes follows the hub's objects of storage.
func NewVolumes(d Deps) *Volumes {
	v := &Volumes{
		deps: d, claims: reconcile.ViewOf[*corev1.PersistentVolumeClaim](d.Hub), volumes: reconcile.ViewOf[*corev1.PersistentVolume](d.Hub),
		classes: reconcile.ViewOf[*storagev1.StorageClass](d.Hub), nodes: reconcile.ViewOf[*storagev1.CSINode](d.Hub),
		drivers: reconcile.ViewOf[*storagev1.CSIDriver](d.Hub), capacities: reconcile.ViewOf[*storagev1.CSIStorageCapacity](d.Hub),
		attached: reconcile.ViewOf[*storagev1.VolumeAttachment](d.Hub),
		assumed:  map[state.Claim]*assumption{}, taken: map[string]state.Claim{}, waiters: map[state.Claim]map[chan<- struct{}]bool{},
	}
	v.volumes.Index(freeVolumes, func(p *corev1.PersistentVolume) []string {
		if p.Spec.ClaimRef != nil {
			return nil
		}
		return []string{volume.GetPersistentVolumeClass(p)}
	})
	v.volumes.Index(claimVolumes, func(p *corev1.PersistentVolume) []string {
		if p.Spec.ClaimRef == nil {
			return nil
		}
		return []string{p.Spec.ClaimRef.Namespace + "/" + p.Spec.ClaimRef.Name}
	})
	v.attached.Index(attachedTo, func(a *storagev1.VolumeAttachment) []string { return []string{a.Spec.NodeName} })
	return v
}

// start waits for the views and subscribes to them, for the first of the
// profiles that ask.
func (v *Volumes) start(ctx context.Context) (stop func(), err error) {
	v.mu.Lock()
	before := v.started
	v.started = true
	v.mu.Unlock()
	if before {
		return func() {}, nil
	}
	for _, synced := range []func(context.Context) error{
		v.claims.Synced, v.volumes.Synced, v.classes.Synced, v.nodes.Synced, v.drivers.Synced, v.capacities.Synced, v.attached.Synced,
	} {
		if err := synced(ctx); err != nil {
			return nil, err
		}
	}
	stops := []func(){
		v.claims.OnChange(v.claimChanged),
		v.volumes.OnChange(func(old, new *corev1.PersistentVolume) {
			v.version.Add(1)
			v.tellAll()
			if new != nil && (old == nil || old.Status.Phase != new.Status.Phase || !maps.Equal(old.Labels, new.Labels) || !equality.Semantic.DeepEqual(&old.Spec, &new.Spec)) {
				v.changed()
			}
		}),
		v.classes.OnChange(func(_, _ *storagev1.StorageClass) { v.version.Add(1); v.changed() }),
		v.nodes.OnChange(func(_, _ *storagev1.CSINode) { v.version.Add(1); v.changed() }),
		v.drivers.OnChange(func(_, _ *storagev1.CSIDriver) { v.version.Add(1); v.changed() }),
		v.capacities.OnChange(func(_, _ *storagev1.CSIStorageCapacity) { v.version.Add(1); v.changed() }),
		v.attached.OnChange(func(_, new *storagev1.VolumeAttachment) {
			v.version.Add(1)
			if new == nil {
				v.changed()
			}
		}),
	}
	return func() {
		for _, s := range stops {
			s()
		}
	}, nil
}

// tellAll has those look again who wait for any claim: a volume that was chosen
// may be another's now.
func (v *Volumes) tellAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.waiters {
		v.tell(key)
	}
}

// tell has those look again who wait for a claim. mu is held.
func (v *Volumes) tell(key state.Claim) {
	for w := range v.waiters[key] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// changed has pods that wait for volumes tried again.
func (v *Volumes) changed() { v.deps.Post(func() { v.deps.Changed(VolumeChanged) }) }

func (v *Volumes) claimChanged(old, new *corev1.PersistentVolumeClaim) {
	v.version.Add(1)
	c := new
	if c == nil {
		c = old
	}
	key := state.Claim{Namespace: c.Namespace, Name: c.Name}
	v.mu.Lock()
	if new == nil || bound(new) {
		v.forget(key)
	}
	v.tell(key)
	v.mu.Unlock()
	if new != nil && (old == nil || old.Status.Phase != new.Status.Phase || !maps.Equal(old.Annotations, new.Annotations) || !equality.Semantic.DeepEqual(&old.Spec, &new.Spec)) {
		v.changed()
	}
}

// forget drops what was decided for a claim. mu is held.
func (v *Volumes) forget(c state.Claim) {
	a := v.assumed[c]
	if a == nil {
		return
	}
	delete(v.assumed, c)
	if a.volume != "" && v.taken[a.volume] == c {
		delete(v.taken, a.volume)
	}
	v.version.Add(1)
}

// bound says that a claim and its volume are each other's for good.
func bound(c *corev1.PersistentVolumeClaim) bool {
	return c.Spec.VolumeName != "" && c.Annotations[volume.AnnBindCompleted] != ""
}

// waits says that a claim's class leaves binding to the scheduler.
func (v *Volumes) waits(c *corev1.PersistentVolumeClaim) bool {
	s := v.class(c)
	return s != nil && s.VolumeBindingMode != nil && *s.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

func (v *Volumes) class(c *corev1.PersistentVolumeClaim) *storagev1.StorageClass {
	s, ok := v.classes.Get("", volume.GetPersistentVolumeClaimClass(c))
	if !ok {
		return nil
	}
	return s
}

// assumption of a claim, nil for none; a copy.
func (v *Volumes) assumption(c state.Claim) *assumption {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a := v.assumed[c]; a != nil {
		return &assumption{node: a.node, volume: a.volume, asked: a.asked}
	}
	return nil
}

// excluded are the volumes given away but not yet seen so, but for those given
// to this claim.
func (v *Volumes) excluded(c state.Claim, also map[string]*corev1.PersistentVolume) map[string]*corev1.PersistentVolume {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.taken) == 0 {
		return also
	}
	all := make(map[string]*corev1.PersistentVolume, len(v.taken)+len(also))
	for name, by := range v.taken {
		if by != c {
			all[name] = nil
		}
	}
	for name := range also {
		all[name] = nil
	}
	return all
}
