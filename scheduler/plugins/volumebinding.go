package plugins

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/scheduler/state"
)

// VolumeBinding sends pods to nodes from where their volumes can be reached, and
// chooses, or has made, the volumes of claims that wait for a pod.
type VolumeBinding struct {
	*Volumes
	// Timeout is how long volumes may take to be bound before a pod is tried
	// again; zero is upstream's ten minutes.
	Timeout time.Duration
	// Shape says how nodes are scored by the part of their storage that the pod
	// would take; none scores nothing.
	Shape []configv1.UtilizationShapePoint
}

// Upstream's words for nodes that a pod's volumes cannot be had on.
const (
	noVolume         = "node(s) didn't find available persistent volumes to bind"
	volumeElsewhere  = "node(s) didn't match PersistentVolume's node affinity"
	volumeGone       = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
	noSpace          = "node(s) did not have enough free storage"
	defaultBindLimit = 600 * time.Second
)

// Name implements Plugin.
func (VolumeBinding) Name() string { return "VolumeBinding" }

// Helps implements Plugin.
func (VolumeBinding) Helps() Change { return NodeChanged | VolumeChanged | PodGone }

// Start implements Starter.
func (b VolumeBinding) Start(ctx context.Context) (func(), error) { return b.start(ctx) }

// podClaims are the claims of a pod, judged.
type podClaims struct {
	b      VolumeBinding
	bound  []*corev1.PersistentVolumeClaim
	toBind []*corev1.PersistentVolumeClaim // the smallest first
	// What was found for the node looked at last: it is scored next.
	node string
	last []choice
}

// choice is what one claim gets on a node: a volume that is there, or one to be
// made, of space that its driver tells of or, when it does not, of none known.
type choice struct {
	volume string
	space  *storagev1.CSIStorageCapacity
}

// Begin implements PreFilter.
func (b VolumeBinding) Begin(c *Class, _ *state.State) (NodeFilter, *No) {
	p, no := b.claimsOf(c.Pod)
	if p == nil {
		return nil, no
	}
	c.claims = p
	return p, nil
}

// Scorer implements Absolute: the mean over storage classes of what the shape
// makes of the part of the chosen volumes that is asked for, or, where none is
// chosen, of the space that volumes are to be made of.
func (b VolumeBinding) Scorer(c *Class, _ *state.State) func(*state.Node) int64 {
	p := c.claims
	if p == nil || len(p.toBind) == 0 || len(b.Shape) == 0 {
		return nil
	}
	score := ratioOf(b.Shape)
	type storage struct{ asked, there int64 }
	return func(n *state.Node) int64 {
		if p.node != n.Name {
			if p.Filter(n) != nil {
				return 0
			}
		}
		static := slices.ContainsFunc(p.last, func(x choice) bool { return x.volume != "" })
		classes := map[string]storage{}
		for i, x := range p.last {
			asked := p.toBind[i].Spec.Resources.Requests.Storage().Value()
			switch v, _ := b.volumes.Get("", x.volume); {
			case static && v != nil:
				s := classes[v.Spec.StorageClassName]
				classes[v.Spec.StorageClassName] = storage{s.asked + asked, s.there + v.Spec.Capacity.Storage().Value()}
			case !static && x.space != nil: // which all volumes of the class share
				class := x.space.StorageClassName
				classes[class] = storage{classes[class].asked + asked, x.space.Capacity.Value()}
			}
		}
		var sum int64
		for _, s := range classes {
			if s.there == 0 {
				s.asked = 1 // full
			}
			sum += score(s.asked, s.there)
		}
		return int64(math.Round(float64(sum) / float64(max(len(classes), 1))))
	}
}

func (b VolumeBinding) claimsOf(p *corev1.Pod) (*podClaims, *No) {
	var all *podClaims
	immediate := false
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.PersistentVolumeClaim == nil && v.Ephemeral == nil {
			continue
		}
		if all == nil {
			all = &podClaims{b: b}
		}
		name := ephemeral.VolumeClaimName(p, v)
		if v.PersistentVolumeClaim != nil {
			name = v.PersistentVolumeClaim.ClaimName
		}
		c, ok := b.claims.Get(p.Namespace, name)
		switch {
		case !ok && v.Ephemeral != nil:
			return nil, RefuseFinally(fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name))
		case !ok:
			return nil, RefuseFinally(fmt.Sprintf("persistentvolumeclaim %q not found", name))
		case c.Status.Phase == corev1.ClaimLost:
			return nil, RefuseFinally(fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, c.Spec.VolumeName))
		case c.DeletionTimestamp != nil:
			return nil, RefuseFinally(fmt.Sprintf("persistentvolumeclaim %q is being deleted", name))
		}
		if v.Ephemeral != nil {
			if err := ephemeral.VolumeIsForPod(p, c); err != nil {
				return nil, RefuseFinally(err.Error())
			}
		}
		switch {
		case bound(c):
			all.bound = append(all.bound, c)
		case c.Spec.VolumeName == "" && b.waits(c):
			all.toBind = append(all.toBind, c)
		default:
			immediate = true
		}
	}
	if immediate { // said last, as upstream does: other claims may not even be there
		return nil, RefuseFinally("pod has unbound immediate PersistentVolumeClaims")
	}
	if all != nil {
		slices.SortStableFunc(all.toBind, func(x, y *corev1.PersistentVolumeClaim) int {
			return cmp.Or(x.Spec.Resources.Requests.Storage().Cmp(*y.Spec.Resources.Requests.Storage()), cmp.Compare(x.Name, y.Name))
		})
	}
	return all, nil
}

// Version implements NodeFilter.
func (p *podClaims) Version() uint64 { return p.b.version.Load() }

// Filter implements NodeFilter.
func (p *podClaims) Filter(n *state.Node) *No {
	var reasons []string
	there := p.reaches(n)
	if there == volumeElsewhere {
		reasons = append(reasons, there)
	}
	chosen, why := p.choose(n.Object)
	if why != "" {
		reasons = append(reasons, why)
	}
	if there == volumeGone {
		reasons = append(reasons, there)
	}
	if reasons != nil {
		return RefuseFinally(reasons...)
	}
	p.node, p.last = n.Name, chosen
	return nil
}

// reaches says why a node cannot have the volumes of the claims that are bound,
// "" when it can.
func (p *podClaims) reaches(n *state.Node) string {
	for _, c := range p.bound {
		v, ok := p.b.volumes.Get("", c.Spec.VolumeName)
		if !ok {
			return volumeGone
		}
		if volume.CheckNodeAffinity(v, n.Object.Labels) != nil {
			return volumeElsewhere
		}
	}
	return ""
}

// choose finds, for a node, a volume for each claim that has none.
func (p *podClaims) choose(n *corev1.Node) (chosen []choice, why string) {
	chosen = make([]choice, len(p.toBind))
	used := map[string]*corev1.PersistentVolume{}
	for i, c := range p.toBind {
		key := state.Claim{Namespace: c.Namespace, Name: c.Name}
		if a := p.b.assumption(key); a != nil {
			if a.node != n.Name {
				return nil, noVolume
			}
			chosen[i].volume = a.volume
			continue
		}
		if selected, ok := c.Annotations[volume.AnnSelectedNode]; ok {
			if selected != n.Name {
				return nil, noVolume
			}
		} else if v := p.b.find(c, n, p.b.excluded(key, used)); v != nil {
			chosen[i].volume, used[v.Name] = v.Name, nil
			continue
		}
		if chosen[i].space, why = p.b.provides(c, n); why != "" {
			return nil, why
		}
	}
	return chosen, ""
}

// find finds a volume that is there.
func (b VolumeBinding) find(c *corev1.PersistentVolumeClaim, n *corev1.Node, not map[string]*corev1.PersistentVolume) *corev1.PersistentVolume {
	candidates := append(b.volumes.By(claimVolumes, c.Namespace+"/"+c.Name), b.volumes.By(freeVolumes, volume.GetPersistentVolumeClaimClass(c))...)
	if len(candidates) == 0 {
		return nil
	}
	slices.SortFunc(candidates, func(x, y *corev1.PersistentVolume) int { return cmp.Compare(x.Name, y.Name) })
	v, err := volume.FindMatchingVolume(c, candidates, n, not, true, true)
	if err != nil {
		return nil
	}
	return v
}

// provides returns the space that a volume for a claim can be made of on a node,
// nil when its driver does not tell, or says why none can.
func (b VolumeBinding) provides(c *corev1.PersistentVolumeClaim, n *corev1.Node) (_ *storagev1.CSIStorageCapacity, why string) {
	class := b.class(c)
	if class == nil || class.Provisioner == "" || class.Provisioner == volume.NotSupportedProvisioner || !allowed(class.AllowedTopologies, n) {
		return nil, noVolume
	}
	if d, ok := b.drivers.Get("", class.Provisioner); !ok || d.Spec.StorageCapacity == nil || !*d.Spec.StorageCapacity {
		return nil, ""
	}
	want := c.Spec.Resources.Requests.Storage()
	for _, x := range b.capacities.All() {
		if x.StorageClassName != class.Name || x.Capacity == nil || x.Capacity.Cmp(*want) < 0 || x.MaximumVolumeSize != nil && x.MaximumVolumeSize.Cmp(*want) < 0 || x.NodeTopology == nil {
			continue
		}
		if s, err := metav1.LabelSelectorAsSelector(x.NodeTopology); err == nil && s.Matches(labels.Set(n.Labels)) {
			return x, ""
		}
	}
	return nil, noSpace
}

// allowed says whether a node is in one of the places a class allows.
func allowed(terms []corev1.TopologySelectorTerm, n *corev1.Node) bool {
	return len(terms) == 0 || slices.ContainsFunc(terms, func(t corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(t.MatchLabelExpressions, func(r corev1.TopologySelectorLabelRequirement) bool {
			have, ok := n.Labels[r.Key]
			return !ok || !slices.Contains(r.Values, have)
		})
	})
}

// Reserve implements Reserver.
func (b VolumeBinding) Reserve(_ *Class, p *corev1.Pod, n *state.Node) *No {
	all, no := b.claimsOf(p)
	if all == nil || len(all.toBind) == 0 {
		return no
	}
	chosen, why := all.choose(n.Object)
	if why != "" {
		return RefuseFinally(why)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range all.toBind {
		key := state.Claim{Namespace: c.Namespace, Name: c.Name}
		a := b.assumed[key]
		if a == nil {
			a = &assumption{node: n.Name, volume: chosen[i].volume, pods: map[types.UID]bool{}}
			b.assumed[key] = a
			if a.volume != "" {
				b.taken[a.volume] = key
			}
		}
		a.pods[p.UID] = true
	}
	b.version.Add(1)
	return nil
}

// Unreserve implements Reserver.
func (b VolumeBinding) Unreserve(p *corev1.Pod, _ string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range state.Claims(p) {
		if a := b.assumed[key]; a != nil && a.pods[p.UID] {
			if delete(a.pods, p.UID); len(a.pods) == 0 {
				b.forget(key)
			}
		}
	}
}
