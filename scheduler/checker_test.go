package scheduler

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cluster is a cluster as a list of facts, and the rules of placement written
// down from their definition: it looks at everything each time, keeps nothing,
// and shares no code with the scheduler. What the scheduler decides is checked
// against it.
type cluster struct {
	nodes      []*corev1.Node
	pods       map[string]*corev1.Pod // placed, by name
	at         map[string]string      // node by name of pod
	namespaces map[string]map[string]string
	budgets    []*policyv1.PodDisruptionBudget
	nominees   map[string]*corev1.Pod // by name; status says where to
}

func (c *cluster) on(node string) (pods []*corev1.Pod) {
	for name, p := range c.pods {
		if c.at[name] == node {
			pods = append(pods, p)
		}
	}
	return pods
}

func (c *cluster) node(name string) *corev1.Node {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// may tells whether a pod may go on a node: as things are, and with all that
// wait for room there and are as important.
func (c *cluster) may(p *corev1.Pod, n *corev1.Node) bool {
	if !c.fits(p, n) {
		return false
	}
	for name, q := range c.nominees {
		if q.Status.NominatedNodeName == n.Name && *q.Spec.Priority >= *p.Spec.Priority && q.UID != p.UID {
			c.pods[name], c.at[name] = q, n.Name
			defer func() {
				delete(c.pods, name)
				delete(c.at, name)
			}()
		}
	}
	return c.fits(p, n)
}

// fits tells whether every hard rule lets a pod go on a node.
func (c *cluster) fits(p *corev1.Pod, n *corev1.Node) bool {
	return c.bears(p, n) && selects(p, n) && declares(p, n) && c.room(p, n) && c.spreads(p, n) && c.near(p, n) && c.apart(p, n) && c.welcome(p, n)
}

func bearsTaints(p *corev1.Pod, taints []corev1.Taint) bool {
	for _, taint := range taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		if !slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
			same := t.Operator == corev1.TolerationOpExists || t.Value == taint.Value
			if x, err := strconv.Atoi(taint.Value); t.Operator == corev1.TolerationOpGt || t.Operator == corev1.TolerationOpLt {
				than, _ := strconv.Atoi(t.Value)
				same = err == nil && (t.Operator == corev1.TolerationOpGt && x > than || t.Operator == corev1.TolerationOpLt && x < than)
			}
			return (t.Key == "" || t.Key == taint.Key) && (t.Effect == "" || t.Effect == taint.Effect) && same
		}) {
			return false
		}
	}
	return true
}

func (c *cluster) bears(p *corev1.Pod, n *corev1.Node) bool {
	taints := n.Spec.Taints
	if n.Spec.Unschedulable {
		taints = append(slices.Clone(taints), corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	return bearsTaints(p, taints)
}

func selects(p *corev1.Pod, n *corev1.Node) bool {
	for k, v := range p.Spec.NodeSelector {
		if n.Labels[k] != v {
			return false
		}
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil || p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		ok := len(term.MatchExpressions)+len(term.MatchFields) > 0
		for _, r := range term.MatchExpressions {
			v, has := n.Labels[r.Key]
			switch r.Operator {
			case corev1.NodeSelectorOpIn:
				ok = ok && has && slices.Contains(r.Values, v)
			case corev1.NodeSelectorOpNotIn:
				ok = ok && !(has && slices.Contains(r.Values, v))
			case corev1.NodeSelectorOpExists:
				ok = ok && has
			case corev1.NodeSelectorOpDoesNotExist:
				ok = ok && !has
			case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
				x, err := strconv.Atoi(v)
				than, _ := strconv.Atoi(r.Values[0])
				ok = ok && err == nil && (r.Operator == corev1.NodeSelectorOpGt && x > than || r.Operator == corev1.NodeSelectorOpLt && x < than)
			default:
				panic("the test uses an operator that the checker does not know")
			}
		}
		for _, r := range term.MatchFields {
			ok = ok && slices.Contains(r.Values, n.Name) == (r.Operator == corev1.NodeSelectorOpIn)
		}
		if ok {
			return true
		}
	}
	return false
}

// declares tells whether a node declares every feature that a pod cannot do
// without.
func declares(p *corev1.Pod, n *corev1.Node) bool {
	has := func(feature string) bool { return slices.Contains(n.Status.DeclaredFeatures, feature) }
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, r := range c.RestartPolicyRules {
			if r.Action == corev1.ContainerRestartRuleActionRestartAllContainers && !has("RestartAllContainersOnContainerExits") {
				return false
			}
		}
	}
	return !p.Spec.HostNetwork || p.Spec.HostUsers == nil || *p.Spec.HostUsers || has("UserNamespacesHostNetworkSupport")
}

// demand is what a pod takes of a resource. A container takes the most of what it
// asks for, was allocated and has, unless its node cannot resize it: then what
// it asks for does not count. Containers that run one after the other take the
// most of one, beside those that have begun to stay.
func demand(p *corev1.Pod, name corev1.ResourceName) int64 {
	infeasible := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodResizePending && c.Reason == corev1.PodReasonInfeasible
	})
	of := func(c *corev1.Container) int64 {
		q := c.Resources.Requests[name]
		n := q.MilliValue()
		for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses) {
			if s.Name != c.Name || s.Resources == nil {
				continue
			}
			has, allocated := s.Resources.Requests[name], s.AllocatedResources[name]
			if infeasible {
				n = 0
			}
			n = max(n, has.MilliValue(), allocated.MilliValue())
		}
		return n
	}
	var stay, most int64
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil {
			stay += of(c)
			most = max(most, stay)
		} else {
			most = max(most, stay+of(c))
		}
	}
	for i := range p.Spec.Containers {
		stay += of(&p.Spec.Containers[i])
	}
	sum := max(most, stay)
	if p.Spec.Resources != nil {
		if q, ok := p.Spec.Resources.Requests[name]; ok {
			sum = q.MilliValue()
		}
	}
	over := p.Spec.Overhead[name]
	return sum + over.MilliValue()
}

func portsOf(p *corev1.Pod) (all []corev1.ContainerPort) {
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil {
			all = append(all, c.Ports...)
		}
	}
	for _, c := range p.Spec.Containers {
		all = append(all, c.Ports...)
	}
	return all
}

func (c *cluster) room(p *corev1.Pod, n *corev1.Node) bool {
	there := c.on(n.Name)
	if int64(len(there)+1) > n.Status.Allocatable.Pods().Value() {
		return false
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		sum := demand(p, name)
		if sum == 0 {
			continue // it asks for none, however full the node is
		}
		for _, q := range there {
			sum += demand(q, name)
		}
		if has := n.Status.Allocatable[name]; sum > has.MilliValue() {
			return false
		}
	}
	for _, q := range there {
		for _, y := range portsOf(q) {
			for _, x := range portsOf(p) {
				if x.HostPort == y.HostPort && x.Protocol == y.Protocol && (x.HostIP == y.HostIP || x.HostIP == "" || y.HostIP == "") {
					return false
				}
			}
		}
	}
	return true
}

func matches(s *metav1.LabelSelector, l map[string]string) bool {
	if s == nil {
		return false
	}
	for k, v := range s.MatchLabels {
		if l[k] != v {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		v, has := l[r.Key]
		if (r.Operator == metav1.LabelSelectorOpIn) != (has && slices.Contains(r.Values, v)) {
			return false
		}
	}
	return true
}

func (c *cluster) spreads(p *corev1.Pod, n *corev1.Node) bool {
	for _, t := range p.Spec.TopologySpreadConstraints {
		if t.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		means := func(l map[string]string) bool {
			for _, k := range t.MatchLabelKeys {
				if v, ok := p.Labels[k]; ok && l[k] != v {
					return false
				}
			}
			return matches(t.LabelSelector, l)
		}
		here, ok := n.Labels[t.TopologyKey]
		if !ok {
			return false
		}
		// Upstream counts nobody by a selector that names nobody in particular.
		everything := t.LabelSelector != nil && len(t.LabelSelector.MatchLabels)+len(t.LabelSelector.MatchExpressions) == 0 &&
			!slices.ContainsFunc(t.MatchLabelKeys, func(k string) bool { _, has := p.Labels[k]; return has })
		domains := map[string]int32{}
		for _, m := range c.nodes {
			eligible := t.NodeAffinityPolicy != nil && *t.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore || selects(p, m)
			if t.NodeTaintsPolicy != nil && *t.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor {
				eligible = eligible && bearsTaints(p, m.Spec.Taints)
			}
			for _, other := range p.Spec.TopologySpreadConstraints {
				if _, has := m.Labels[other.TopologyKey]; !has && other.WhenUnsatisfiable == corev1.DoNotSchedule {
					eligible = false
				}
			}
			if !eligible {
				continue
			}
			domains[m.Labels[t.TopologyKey]] += 0
			for _, q := range c.on(m.Name) {
				if q.Namespace == p.Namespace && q.DeletionTimestamp == nil && !everything && means(q.Labels) {
					domains[m.Labels[t.TopologyKey]]++
				}
			}
		}
		least, first := int32(0), true
		for _, k := range domains {
			if first || k < least {
				least, first = k, false
			}
		}
		if t.MinDomains != nil && len(domains) < int(*t.MinDomains) {
			least = 0
		}
		self := int32(0)
		if means(p.Labels) {
			self = 1
		}
		if domains[here]+self-least > t.MaxSkew {
			return false
		}
	}
	return true
}

// means tells whether a term of owner is about a pod.
func (c *cluster) means(owner *corev1.Pod, t *corev1.PodAffinityTerm, q *corev1.Pod) bool {
	space := slices.Contains(t.Namespaces, q.Namespace) || len(t.Namespaces) == 0 && t.NamespaceSelector == nil && q.Namespace == owner.Namespace ||
		t.NamespaceSelector != nil && matches(t.NamespaceSelector, c.namespaces[q.Namespace])
	for _, k := range t.MatchLabelKeys {
		if v, ok := owner.Labels[k]; ok && q.Labels[k] != v {
			return false
		}
	}
	for _, k := range t.MismatchLabelKeys {
		if v, ok := owner.Labels[k]; ok && q.Labels[k] == v {
			return false
		}
	}
	return space && matches(t.LabelSelector, q.Labels)
}

// sameDomain tells whether two nodes have the same value of a label.
func sameDomain(a, b *corev1.Node, key string) bool {
	x, ok := a.Labels[key]
	y, too := b.Labels[key]
	return ok && too && x == y
}

func (c *cluster) near(p *corev1.Pod, n *corev1.Node) bool {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAffinity == nil {
		return true
	}
	terms := p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	all := func(q *corev1.Pod) bool {
		for i := range terms {
			if !c.means(p, &terms[i], q) {
				return false
			}
		}
		return true
	}
	satisfied, anywhere := true, false
	for i := range terms {
		if _, ok := n.Labels[terms[i].TopologyKey]; !ok {
			return false
		}
		found := false
		for name, q := range c.pods {
			m := c.node(c.at[name])
			if m == nil || !all(q) {
				continue
			}
			if _, ok := m.Labels[terms[i].TopologyKey]; ok {
				anywhere = true
			}
			found = found || sameDomain(m, n, terms[i].TopologyKey)
		}
		satisfied = satisfied && found
	}
	return satisfied || !anywhere && all(p)
}

func antiTerms(p *corev1.Pod) []corev1.PodAffinityTerm {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	return p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

func (c *cluster) apart(p *corev1.Pod, n *corev1.Node) bool {
	terms := antiTerms(p)
	for i := range terms {
		for name, q := range c.pods {
			if m := c.node(c.at[name]); m != nil && sameDomain(m, n, terms[i].TopologyKey) && c.means(p, &terms[i], q) {
				return false
			}
		}
	}
	return true
}

func (c *cluster) welcome(p *corev1.Pod, n *corev1.Node) bool {
	for name, q := range c.pods {
		m, terms := c.node(c.at[name]), antiTerms(q)
		for i := range terms {
			if m != nil && sameDomain(m, n, terms[i].TopologyKey) && c.means(q, &terms[i], p) {
				return false
			}
		}
	}
	return true
}
