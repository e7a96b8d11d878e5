package kubelet

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"sagong/kubelet/pod"
)

// ledger sums up what the pods that the node has taken on ask for.
type ledger struct {
	mu    sync.Mutex
	pods  map[types.UID]*booking
	total corev1.ResourceList
	ports map[string]types.UID
}

type booking struct {
	requests corev1.ResourceList
	ports    []string
}

func newLedger() *ledger {
	return &ledger{pods: map[types.UID]*booking{}, total: corev1.ResourceList{}, ports: map[string]types.UID{}}
}

// hostPortKeys name what a pod takes of the node's ports.
func hostPortKeys(p *corev1.Pod) []string {
	var keys []string
	for _, m := range pod.Members(p) {
		if m.Class == pod.Ephemeral || m.Class == pod.Init {
			continue
		}
		for _, c := range m.Ports {
			if c.HostPort > 0 {
				ip := c.HostIP
				if ip == "" {
					ip = "0.0.0.0"
				}
				proto := c.Protocol
				if proto == "" {
					proto = corev1.ProtocolTCP
				}
				keys = append(keys, fmt.Sprintf("%s/%s/%d", proto, ip, c.HostPort))
			}
		}
	}
	return keys
}

// book adds a pod, unless refuse objects to the sum without it.
func (l *ledger) book(p *corev1.Pod, refuse func(total corev1.ResourceList, pods int, taken func(string) bool) *pod.Verdict) *pod.Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pods[p.UID] != nil {
		return nil
	}
	if refuse != nil {
		if v := refuse(l.total, len(l.pods), l.taken); v != nil {
			return v
		}
	}
	b := &booking{requests: pod.Requests(p), ports: hostPortKeys(p)}
	l.pods[p.UID] = b
	for n, q := range b.requests {
		v := l.total[n]
		v.Add(q)
		l.total[n] = v
	}
	for _, k := range b.ports {
		l.ports[k] = p.UID
	}
	return nil
}

// taken says whether a port is in use: an address of its own collides with
// the unspecified one.
func (l *ledger) taken(key string) bool {
	if _, ok := l.ports[key]; ok {
		return true
	}
	parts := strings.SplitN(key, "/", 3)
	if parts[1] != "0.0.0.0" {
		_, ok := l.ports[parts[0]+"/0.0.0.0/"+parts[2]]
		return ok
	}
	for k := range l.ports {
		if o := strings.SplitN(k, "/", 3); o[0] == parts[0] && o[2] == parts[2] {
			return true
		}
	}
	return false
}

// rebook changes what a pod asks for when it is resized. It returns the
// condition to report when that is not possible, now or ever.
func (l *ledger) rebook(p *corev1.Pod, alloc corev1.ResourceList) *corev1.PodCondition {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.pods[p.UID]
	if b == nil {
		return nil
	}
	want := pod.Requests(p)
	for n, q := range want {
		have, known := alloc[n]
		if !known {
			continue
		}
		refuse := func(reason, format string, args ...any) *corev1.PodCondition {
			return &corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: reason, Message: fmt.Sprintf(format, args...)}
		}
		if q.Cmp(have) > 0 {
			return refuse(corev1.PodReasonInfeasible, "Node didn't have enough capacity: %s, requested: %d, capacity: %d", n, scalar(n, q), scalar(n, have))
		}
		sum := l.total[n].DeepCopy()
		sum.Sub(b.requests[n])
		others := sum.DeepCopy()
		sum.Add(q)
		if sum.Cmp(have) > 0 {
			return refuse(corev1.PodReasonDeferred, "Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", n, scalar(n, q), scalar(n, others), scalar(n, have))
		}
	}
	for n, q := range b.requests {
		v := l.total[n]
		v.Sub(q)
		l.total[n] = v
	}
	b.requests = want
	for n, q := range want {
		v := l.total[n]
		v.Add(q)
		l.total[n] = v
	}
	return nil
}

// release takes a pod out.
func (l *ledger) release(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.pods[uid]
	if b == nil {
		return
	}
	delete(l.pods, uid)
	for n, q := range b.requests {
		v := l.total[n]
		v.Sub(q)
		l.total[n] = v
	}
	for _, k := range b.ports {
		if l.ports[k] == uid {
			delete(l.ports, k)
		}
	}
}

// admit decides whether the node takes a new pod on. The scheduler has looked
// at the same things, but at a state that may have passed; a pod may also have
// been bound without it.
func (a *Agent) admit(p *corev1.Pod) *pod.Verdict {
	refuse := func(reason, format string, args ...any) *pod.Verdict {
		return &pod.Verdict{Reason: reason, Message: "Pod was rejected: " + fmt.Sprintf(format, args...)}
	}
	if os := p.Spec.OS; os != nil && os.Name != corev1.Linux {
		return refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
	}
	if err := a.steps.ForbiddenSysctl(p); err != nil {
		return refuse("SysctlForbidden", "%v", err)
	}
	if name, ok := confined(p); ok && !a.apparmor {
		return refuse("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host (container %s)", name)
	}
	if lacks := declared.Lacks(p); len(lacks) > 0 {
		return refuse("PodFeatureUnsupported", "Pod requires node features that are not available: %s", strings.Join(lacks, ", "))
	}
	node, ok := a.nodes.Get("", a.cfg.NodeName)
	if ok {
		if !matchesNode(p, node) {
			return refuse("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
		}
		for i := range node.Spec.Taints {
			t := &node.Spec.Taints[i]
			if t.Effect == corev1.TaintEffectNoExecute && !tolerates(p.Spec.Tolerations, t) {
				return refuse("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")
			}
		}
	}
	if v := a.pressureRefuses(p); v != nil {
		return v
	}
	alloc := a.Allocatable()
	return a.ledger.book(p, func(total corev1.ResourceList, pods int, taken func(string) bool) *pod.Verdict {
		if limit := alloc.Pods().Value(); limit > 0 && int64(pods)+1 > limit {
			return refuse("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", pods, limit)
		}
		for n, q := range pod.Requests(p) {
			if q.IsZero() || byClaim(p, n) {
				continue
			}
			have, known := alloc[n]
			used := total[n]
			sum := used.DeepCopy()
			sum.Add(q)
			if known && sum.Cmp(have) <= 0 {
				continue
			}
			return refuse("OutOf"+string(n), "Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", n, scalar(n, q), scalar(n, used), scalar(n, have))
		}
		for _, k := range hostPortKeys(p) {
			if taken(k) {
				return refuse("NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports")
			}
		}
		return nil
	})
}

// byClaim tells whether a pod gets an extended resource as devices of a claim.
func byClaim(p *corev1.Pod, name corev1.ResourceName) bool {
	s := p.Status.ExtendedResourceClaimStatus
	return s != nil && slices.ContainsFunc(s.RequestMappings, func(r corev1.ContainerExtendedResourceRequest) bool { return r.ResourceName == string(name) })
}

// scalar is the number that texts give: millicores for CPU.
func scalar(n corev1.ResourceName, q resource.Quantity) int64 {
	if n == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// confined names a container that demands an AppArmor profile.
func confined(p *corev1.Pod) (string, bool) {
	demands := func(a *corev1.AppArmorProfile) bool {
		return a != nil && a.Type == corev1.AppArmorProfileTypeLocalhost
	}
	all := p.Spec.SecurityContext != nil && demands(p.Spec.SecurityContext.AppArmorProfile)
	for _, m := range pod.Members(p) {
		if own := m.SecurityContext; own != nil && own.AppArmorProfile != nil {
			if demands(own.AppArmorProfile) {
				return m.Name, true
			}
		} else if all {
			return m.Name, true
		}
	}
	return "", false
}

// matchesNode checks nodeSelector and required node affinity.
func matchesNode(p *corev1.Pod, n *corev1.Node) bool {
	if !labels.SelectorFromSet(p.Spec.NodeSelector).Matches(labels.Set(n.Labels)) {
		return false
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil || p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, t := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if len(t.MatchExpressions)+len(t.MatchFields) > 0 && matchesTerm(t, n) {
			return true
		}
	}
	return false
}

func matchesTerm(t corev1.NodeSelectorTerm, n *corev1.Node) bool {
	ops := map[corev1.NodeSelectorOperator]selection.Operator{
		corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
		corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
		corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
	}
	for _, e := range t.MatchExpressions {
		r, err := labels.NewRequirement(e.Key, ops[e.Operator], e.Values)
		if err != nil || !r.Matches(labels.Set(n.Labels)) {
			return false
		}
	}
	for _, f := range t.MatchFields {
		if f.Key != "metadata.name" || len(f.Values) != 1 {
			return false
		}
		sel := fields.OneTermEqualSelector(f.Key, f.Values[0])
		if f.Operator == corev1.NodeSelectorOpNotIn {
			sel = fields.OneTermNotEqualSelector(f.Key, f.Values[0])
		}
		if !sel.Matches(fields.Set{"metadata.name": n.Name}) {
			return false
		}
	}
	return true
}

func tolerates(all []corev1.Toleration, t *corev1.Taint) bool {
	for _, o := range all {
		if o.Effect != "" && o.Effect != t.Effect || o.Key != "" && o.Key != t.Key {
			continue
		}
		switch o.Operator {
		case corev1.TolerationOpExists:
			return true
		case "", corev1.TolerationOpEqual:
			if o.Key != "" && o.Value == t.Value {
				return true
			}
		}
	}
	return false
}

// pressureRefuses keeps pods away that would be evicted at once.
func (a *Agent) pressureRefuses(p *corev1.Pod) *pod.Verdict {
	pr := a.pressure.Load()
	if !pr.Memory && !pr.Disk && !pr.PIDs || p.Spec.Priority != nil && *p.Spec.Priority >= 2000000000 {
		return nil
	}
	if pr.Memory && !pr.Disk && !pr.PIDs {
		// Only pods without requests go first when memory alone is short.
		if pod.QOS(p) != corev1.PodQOSBestEffort || tolerates(p.Spec.Tolerations, &corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}) {
			return nil
		}
	}
	var what []string
	for _, c := range []struct {
		on   bool
		name corev1.NodeConditionType
	}{{pr.Memory, corev1.NodeMemoryPressure}, {pr.Disk, corev1.NodeDiskPressure}, {pr.PIDs, corev1.NodePIDPressure}} {
		if c.on {
			what = append(what, string(c.name))
		}
	}
	return &pod.Verdict{Reason: "Evicted", Message: fmt.Sprintf("Pod was rejected: The node had condition: [%s]. ", strings.Join(what, ", "))}
}
