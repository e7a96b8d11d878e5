package kubelet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/kubelet/pod"
)

// maxImages is how many images the node status lists, the largest first.
const maxImages = 50

// declared are the features that this agent has. ExtendWebSocketsToKubelet:
// kubelet/serve speaks to clients in WebSockets itself.
var declared = pod.Declare("ExtendWebSocketsToKubelet", "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers")

// labels are the standard ones and those of the configuration.
func (a *Agent) labels() map[string]string {
	l := map[string]string{
		corev1.LabelHostname: a.cfg.NodeName, corev1.LabelOSStable: a.machine.Info.OperatingSystem, corev1.LabelArchStable: a.machine.Info.Architecture,
		"beta.kubernetes.io/os": a.machine.Info.OperatingSystem, "beta.kubernetes.io/arch": a.machine.Info.Architecture,
	}
	maps.Copy(l, a.cfg.Labels)
	return l
}

// register makes the Node object, or brings an earlier one's labels up to date.
func (a *Agent) register(ctx context.Context) (*corev1.Node, error) {
	node, err := client.Get[*corev1.Node](ctx, a.dep.Client, "", a.cfg.NodeName)
	if apierrors.IsNotFound(err) {
		fresh := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.NodeName, Labels: a.labels()}, Spec: corev1.NodeSpec{Taints: a.cfg.Taints}}
		for _, p := range a.cfg.PodCIDRs {
			fresh.Spec.PodCIDRs = append(fresh.Spec.PodCIDRs, p.String())
		}
		if len(fresh.Spec.PodCIDRs) > 0 {
			fresh.Spec.PodCIDR = fresh.Spec.PodCIDRs[0]
		}
		a.nodeStatus(&fresh.Status)
		node, err = client.Create(ctx, a.dep.Client, fresh)
		if apierrors.IsAlreadyExists(err) {
			return a.register(ctx)
		}
		if err == nil {
			a.dep.Recorder.Eventf(node, corev1.EventTypeNormal, "Starting", "Starting kubelet.")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot register node %q: %w", a.cfg.NodeName, err)
	}
	changed := false
	for k, v := range a.labels() {
		if node.Labels[k] != v {
			changed = true
		}
	}
	if changed || len(node.Spec.PodCIDRs) == 0 && len(a.cfg.PodCIDRs) > 0 {
		n := node.DeepCopy()
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		maps.Copy(n.Labels, a.labels())
		if len(n.Spec.PodCIDRs) == 0 {
			for _, p := range a.cfg.PodCIDRs {
				n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, p.String())
				n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
			}
		}
		labelled, err := client.Update(ctx, a.dep.Client, n)
		if apierrors.IsConflict(err) {
			return a.register(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot label node %q: %w", a.cfg.NodeName, err)
		}
		node = labelled
	}
	return node, nil
}

// nodeStatus fills in what this node says of itself, keeping conditions and
// fields that others own.
func (a *Agent) nodeStatus(s *corev1.NodeStatus) {
	s.Capacity, s.Allocatable = a.machine.Capacity.DeepCopy(), a.Allocatable().DeepCopy()
	s.NodeInfo = a.machine.Info
	s.DaemonEndpoints.KubeletEndpoint.Port = a.cfg.Port
	s.Addresses = nil
	for _, ip := range a.cfg.HostIPs {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: a.cfg.NodeName})
	yes := true
	s.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &yes}
	s.DeclaredFeatures = declared.Names
	s.RuntimeHandlers = nil
	for _, h := range append([]string{""}, a.cfg.RuntimeHandlers...) {
		s.RuntimeHandlers = append(s.RuntimeHandlers, corev1.NodeRuntimeHandler{Name: h, Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &yes, UserNamespaces: new(bool)}})
	}
	s.Images = a.imageList()

	p := a.pressure.Load()
	set := func(t corev1.NodeConditionType, bad bool, badReason, badMessage, goodReason, goodMessage string) {
		c := corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: goodReason, Message: goodMessage}
		if bad {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, badReason, badMessage
		}
		setNodeCondition(s, c)
	}
	set(corev1.NodeMemoryPressure, p.Memory, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available", "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	set(corev1.NodeDiskPressure, p.Disk, "KubeletHasDiskPressure", "kubelet has disk pressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	set(corev1.NodePIDPressure, p.PIDs, "KubeletHasInsufficientPID", "kubelet has insufficient PID available", "KubeletHasSufficientPID", "kubelet has sufficient PID available")
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if why := a.notReady(); why != "" {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", why
	}
	setNodeCondition(s, ready)
}

func setNodeCondition(s *corev1.NodeStatus, c corev1.NodeCondition) {
	now := metav1.Now().Rfc3339Copy()
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	for i := range s.Conditions {
		old := &s.Conditions[i]
		if old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

func (a *Agent) imageList() []corev1.ContainerImage {
	images, err := a.dep.Images.List()
	if err != nil {
		a.log.Warn("cannot list images", "err", err)
		return nil
	}
	sort.Slice(images, func(i, j int) bool { return images[i].Size > images[j].Size })
	if len(images) > maxImages {
		images = images[:maxImages]
	}
	var out []corev1.ContainerImage
	for _, i := range images {
		names := slices.Concat(i.RepoDigests, i.RepoTags)
		if len(names) > 5 {
			names = names[:5]
		}
		out = append(out, corev1.ContainerImage{Names: names, SizeBytes: i.Size})
	}
	return out
}

// reportNode writes the node's status when it has changed, or in any case when
// forced.
func (a *Agent) reportNode(ctx context.Context, force bool) error {
	for {
		node, ok := a.nodes.Get("", a.cfg.NodeName)
		if !ok || force {
			var err error
			if node, err = client.Get[*corev1.Node](ctx, a.dep.Client, "", a.cfg.NodeName); err != nil {
				if apierrors.IsNotFound(err) {
					// Somebody deleted it: a node that lives registers again.
					_, err := a.register(ctx)
					return err
				}
				return fmt.Errorf("cannot read node %q: %w", a.cfg.NodeName, err)
			}
		}
		n := node.DeepCopy()
		a.nodeStatus(&n.Status)
		if !force && sameNodeStatus(&node.Status, &n.Status) {
			return nil
		}
		_, err := client.UpdateStatus(ctx, a.dep.Client, n)
		if apierrors.IsConflict(err) {
			force = true
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot write status of node %q: %w", a.cfg.NodeName, err)
		}
		return nil
	}
}

// sameNodeStatus ignores heartbeats.
func sameNodeStatus(a, b *corev1.NodeStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	for _, s := range []*corev1.NodeStatus{x, y} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return equality.Semantic.DeepEqual(x, y)
}

// keepNode writes the node's status on every change and every StatusInterval.
func (a *Agent) keepNode(ctx context.Context) {
	tick := time.NewTimer(a.cfg.StatusInterval)
	defer tick.Stop()
	for {
		force := false
		select {
		case <-ctx.Done():
			return
		case <-a.nodeChanged:
		case <-tick.C:
			force = true
			tick.Reset(a.cfg.StatusInterval)
		}
		if err := a.reportNode(ctx, force); err != nil && ctx.Err() == nil {
			a.log.Warn("cannot report node status, trying again", "err", err)
			tick.Reset(2 * time.Second)
		}
	}
}

// touchNode asks for a look at the node's status.
func (a *Agent) touchNode() {
	select {
	case a.nodeChanged <- struct{}{}:
	default:
	}
}
