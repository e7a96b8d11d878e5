package plugins

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/state"
)

// spot is a node with pods on it.
type spot struct {
	labels map[string]string
	taints []corev1.Taint
	pods   []*corev1.Pod
}

func in(zone string, pods ...*corev1.Pod) spot {
	return spot{labels: map[string]string{"zone": zone}, pods: pods}
}

func (s spot) with(key, value string) spot {
	s.labels = maps.Clone(s.labels)
	s.labels[key] = value
	return s
}

func (s spot) without(key string) spot {
	s.labels = maps.Clone(s.labels)
	delete(s.labels, key)
	return s
}

func (s spot) tainted(effect corev1.TaintEffect) spot {
	s.taints = []corev1.Taint{{Key: "t", Effect: effect}}
	return s
}

// app is k pods with the label app=name.
func app(name string, k int, change ...func(*corev1.Pod)) (pods []*corev1.Pod) {
	for range k {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{"app": name}}}
		for _, f := range change {
			f(p)
		}
		pods = append(pods, p)
	}
	return pods
}

// judge asks a rule that counts about nodes n1, n2 and so on: by node, "ok" or
// the reasons, and its score among those that do.
func judge(t *testing.T, rule Global, p *corev1.Pod, spots []spot) (verdicts []string, scores []int64) {
	t.Helper()
	s := state.New()
	uid := 0
	for i, x := range spots {
		name := fmt.Sprint("n", i+1)
		l := map[string]string{corev1.LabelHostname: name}
		maps.Copy(l, x.labels)
		if x.labels[corev1.LabelHostname] == "-" {
			delete(l, corev1.LabelHostname)
		}
		s.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: l}, Spec: corev1.NodeSpec{Taints: x.taints}})
		for _, q := range x.pods {
			uid++
			q = q.DeepCopy()
			q.UID = types.UID(fmt.Sprint(uid))
			s.Place(q, name, false)
		}
	}
	c, err := NewClass(p)
	if err != nil {
		t.Fatal(err)
	}
	var counting Counting
	for stale := true; stale; {
		if counting = rule.Count(c, s); counting == nil {
			return slices.Repeat([]string{"ok"}, len(spots)), nil
		}
		for _, n := range s.Nodes() {
			counting.Recount(n.Slot, n)
		}
		stale = counting.Stale()
	}
	var groups []Group
	for _, n := range s.Nodes() {
		verdict := "ok"
		if no := counting.Filter(n); no != nil {
			verdict = strings.Join(no.Reasons, ",")
			if no.Final {
				verdict += "!"
			}
		} else {
			groups = append(groups, Group{n, 1})
		}
		verdicts = append(verdicts, verdict)
	}
	scores = make([]int64, len(groups))
	if len(groups) == 0 || !counting.Scores(groups, scores) {
		scores = nil
	}
	return verdicts, scores
}

func newcomer(change ...func(*corev1.Pod)) *corev1.Pod {
	return app("web", 1, change...)[0]
}

func spreadOver(key string, skew int32, when corev1.UnsatisfiableConstraintAction, change ...func(*corev1.TopologySpreadConstraint)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.TopologySpreadConstraint{
			MaxSkew: skew, TopologyKey: key, WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}
		for _, f := range change {
			f(&c)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

func apart(p *corev1.Pod) { p.Namespace = "other" }

func leavingPod(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }

func fourOver(a, b, c, d int) []spot {
	return []spot{in("1", app("web", a)...), in("1", app("web", b)...), in("2", app("web", c)...), in("2", app("web", d)...)}
}

// The facts that upstream's own tests of the rule state, for filtering.
func TestSpreadingRulesOut(t *testing.T) {
	const hard = corev1.DoNotSchedule
	const no, none = "node(s) didn't match pod topology spread constraints", "node(s) didn't match pod topology spread constraints (missing required label)!"
	const host = corev1.LabelHostname
	minDomains := func(n int32) func(*corev1.TopologySpreadConstraint) {
		return func(c *corev1.TopologySpreadConstraint) { c.MinDomains = &n }
	}
	policies := func(affinity, taints corev1.NodeInclusionPolicy) func(*corev1.TopologySpreadConstraint) {
		return func(c *corev1.TopologySpreadConstraint) {
			c.NodeAffinityPolicy, c.NodeTaintsPolicy = &affinity, &taints
		}
	}
	const honor, ignore = corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore
	select2 := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"foo": "bar"} }
	stranger := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} }
	everything := func(c *corev1.TopologySpreadConstraint) { c.LabelSelector = &metav1.LabelSelector{} }
	noSelector := func(c *corev1.TopologySpreadConstraint) { c.LabelSelector = nil }
	keyed := func(c *corev1.TopologySpreadConstraint) { c.MatchLabelKeys = []string{"rev", "absent"} }
	rev := func(r string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels["rev"] = r } }
	for name, x := range map[string]struct {
		pod   *corev1.Pod
		spots []spot
		want  []string
	}{
		"nobody there":                           {newcomer(spreadOver("zone", 1, hard)), fourOver(0, 0, 0, 0), []string{"ok", "ok", "ok", "ok"}},
		"it does not match itself":               {newcomer(spreadOver("zone", 1, hard), stranger), fourOver(0, 0, 0, 0), []string{"ok", "ok", "ok", "ok"}},
		"not itself, skew as large as may be":    {newcomer(spreadOver(host, 1, hard), stranger), fourOver(2, 1, 0, 3), []string{no, "ok", "ok", no}},
		"zones 3 and 1":                          {newcomer(spreadOver("zone", 1, hard)), fourOver(2, 1, 0, 1), []string{no, no, "ok", "ok"}},
		"zones 3 and 3":                          {newcomer(spreadOver("zone", 1, hard)), fourOver(2, 1, 0, 3), []string{"ok", "ok", "ok", "ok"}},
		"nodes 2, 1, 0, 3":                       {newcomer(spreadOver(host, 1, hard)), fourOver(2, 1, 0, 3), []string{no, no, "ok", no}},
		"the same, a skew of two":                {newcomer(spreadOver(host, 2, hard)), fourOver(2, 1, 0, 3), []string{no, "ok", "ok", no}},
		"a node without the label":               {newcomer(spreadOver("zone", 1, hard)), []spot{in("1", app("web", 1)...), in("1", app("web", 1)...).without("zone"), in("2"), in("2", app("web", 1)...)}, []string{"ok", none, "ok", "ok"}},
		"no node has the label":                  {newcomer(spreadOver("rack", 1, hard)), fourOver(1, 1, 0, 0), []string{none, none, none, none}},
		"pods of another namespace":              {newcomer(spreadOver("zone", 1, hard)), []spot{in("1", app("web", 1)...), in("1", app("web", 2, apart)...), in("2"), in("2", app("web", 3, apart)...)}, []string{no, no, "ok", "ok"}},
		"pods on their way out":                  {newcomer(spreadOver(host, 1, hard)), []spot{in("1", app("web", 2, leavingPod)...), in("1", app("web", 1)...), in("2", app("web", 1)...)}, []string{"ok", no, no}},
		"other pods":                             {newcomer(spreadOver(host, 1, hard)), []spot{in("1", app("db", 5)...), in("1", app("web", 1)...)}, []string{"ok", no}},
		"a selector of everything counts nobody": {newcomer(spreadOver(host, 1, hard, everything)), fourOver(2, 1, 0, 3), []string{"ok", "ok", "ok", "ok"}},
		"no selector means nobody":               {newcomer(spreadOver(host, 1, hard, noSelector)), fourOver(2, 1, 0, 3), []string{"ok", "ok", "ok", "ok"}},
		"keys of the pod's own":                  {newcomer(spreadOver(host, 1, hard, keyed), rev("2")), []spot{in("1", app("web", 3, rev("1"))...), in("1", app("web", 1, rev("2"))...)}, []string{"ok", no}},

		"affinity keeps zone 2 out of the count": {newcomer(spreadOver("zone", 1, hard), select2), []spot{in("1", app("web", 1)...).with("foo", "bar"), in("1").with("foo", "bar"), in("2"), in("2")}, []string{"ok", "ok", "ok", "ok"}},
		"affinity ignored":                       {newcomer(spreadOver("zone", 1, hard, policies(ignore, ignore)), select2), []spot{in("1", app("web", 1)...).with("foo", "bar"), in("2")}, []string{no, "ok"}},
		"taints ignored":                         {newcomer(spreadOver(host, 1, hard)), []spot{in("1", app("web", 1)...), in("1").tainted(corev1.TaintEffectNoSchedule)}, []string{no, "ok"}},
		"taints honoured":                        {newcomer(spreadOver(host, 1, hard, policies(honor, honor))), []spot{in("1", app("web", 1)...), in("1").tainted(corev1.TaintEffectNoSchedule)}, []string{"ok", "ok"}},
		"soft taints":                            {newcomer(spreadOver(host, 1, hard, policies(honor, honor))), []spot{in("1", app("web", 1)...), in("1").tainted(corev1.TaintEffectPreferNoSchedule)}, []string{no, "ok"}},
		"taints borne": {newcomer(spreadOver(host, 1, hard, policies(honor, honor)), func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "t", Operator: corev1.TolerationOpExists}}
		}), []spot{in("1", app("web", 1)...), in("1").tainted(corev1.TaintEffectNoSchedule)}, []string{no, "ok"}},

		"fewer domains than there must be": {newcomer(spreadOver(host, 2, hard, minDomains(5))), []spot{in("1", app("web", 2)...), in("1", app("web", 2)...), in("2", app("web", 1)...)}, []string{no, no, "ok"}},
		"as many":                          {newcomer(spreadOver(host, 2, hard, minDomains(3))), []spot{in("1", app("web", 2)...), in("1", app("web", 2)...), in("2", app("web", 1)...)}, []string{"ok", "ok", "ok"}},
		"more":                             {newcomer(spreadOver("zone", 1, hard, minDomains(1))), fourOver(1, 0, 1, 0), []string{"ok", "ok", "ok", "ok"}},
		"fewer zones":                      {newcomer(spreadOver("zone", 1, hard, minDomains(3))), fourOver(1, 0, 0, 0), []string{no, no, "ok", "ok"}},

		"zone and node, all even in zones": {newcomer(spreadOver("zone", 1, hard), spreadOver(host, 1, hard)), fourOver(2, 1, 0, 3), []string{no, no, "ok", no}},
		"zone and node, one node does":     {newcomer(spreadOver("zone", 1, hard), spreadOver(host, 1, hard)), fourOver(2, 0, 1, 0), []string{no, no, no, "ok"}},
		"zone against node":                {newcomer(spreadOver("zone", 1, hard), spreadOver(host, 1, hard)), fourOver(1, 2, 0, 0), []string{no, no, "ok", "ok"}},
		"nodes that lack one of two labels do not count": {newcomer(spreadOver("zone", 1, hard), spreadOver("rack", 1, hard)), []spot{
			in("1", app("web", 1)...).with("rack", "a"), in("2"), in("1").with("rack", "b"),
		}, []string{no, none, "ok"}},
		"soft constraints rule nobody out": {newcomer(spreadOver(host, 1, corev1.ScheduleAnyway)), fourOver(5, 0, 0, 0), []string{"ok", "ok", "ok", "ok"}},
	} {
		if got, _ := judge(t, NewPodTopologySpread(nil, true, nil), x.pod, x.spots); !slices.Equal(got, x.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, x.want)
		}
	}
}

// The same for scoring. A score is 100 (max + min - x) / max of the sum x, over
// the constraints, of pods times ln(domains + 2), and skew - 1.
func TestSpreadingScores(t *testing.T) {
	const soft = corev1.ScheduleAnyway
	const host = corev1.LabelHostname
	everything := func(c *corev1.TopologySpreadConstraint) { c.LabelSelector = &metav1.LabelSelector{} }
	for name, x := range map[string]struct {
		pod   *corev1.Pod
		spots []spot
		want  []int64
	}{
		"nobody there":               {newcomer(spreadOver(host, 1, soft)), fourOver(0, 0, 0, 0), []int64{100, 100, 100, 100}},
		"nodes 2, 1, 0, 3":           {newcomer(spreadOver(host, 1, soft)), fourOver(2, 1, 0, 3), []int64{20, 60, 100, 0}},
		"all as many":                {newcomer(spreadOver(host, 1, soft)), fourOver(2, 2, 2, 2), []int64{100, 100, 100, 100}},
		"a larger skew matters less": {newcomer(spreadOver(host, 3, soft)), fourOver(2, 1, 0, 3), []int64{42, 71, 100, 28}},
		"zones 3 and 1":              {newcomer(spreadOver("zone", 1, soft)), fourOver(2, 1, 0, 1), []int64{25, 25, 100, 100}},
		"zones and nodes":            {newcomer(spreadOver("zone", 1, soft), spreadOver(host, 1, soft)), fourOver(2, 1, 0, 1), []int64{12, 37, 100, 75}},
		"a node without a label":     {newcomer(spreadOver("zone", 1, soft)), []spot{in("1", app("web", 1)...), in("2").without("zone"), in("2")}, []int64{0, 0, 100}},
		"a selector of everything":   {newcomer(spreadOver(host, 1, soft, everything)), fourOver(2, 1, 0, 3), []int64{100, 100, 100, 100}},
		"pods elsewhere, and leaving": {newcomer(spreadOver(host, 1, soft)), []spot{in("1", append(app("web", 3, apart), app("web", 3, leavingPod)...)...), in("1", app("web", 1)...)},
			[]int64{100, 0}},
	} {
		if _, got := judge(t, NewPodTopologySpread(nil, true, nil), x.pod, x.spots); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}

func podTerm(key, app string, change ...func(*corev1.PodAffinityTerm)) corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}
	for _, f := range change {
		f(&t)
	}
	return t
}

func affine(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.PodAffinity == nil {
		p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{}
	}
	if p.Spec.Affinity.PodAntiAffinity == nil {
		p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{}
	}
	return p.Spec.Affinity
}

func besides(terms ...corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affine(p).PodAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, terms...)
	}
}

func awayFrom(terms ...corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affine(p).PodAntiAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, terms...)
	}
}

func likes(weight int32, t corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affine(p).PodAffinity
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution, corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: t})
	}
}

func dislikes(weight int32, t corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affine(p).PodAntiAffinity
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution, corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: t})
	}
}

var teams = Namespaces(func(name string) labels.Set {
	return map[string]labels.Set{"default": {"team": "x"}, "other": {"team": "y"}}[name]
})

func namespacesOf(team string) func(*corev1.PodAffinityTerm) {
	return func(t *corev1.PodAffinityTerm) {
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": team}}
	}
}

// What upstream's tests of affinity between pods state, for filtering.
func TestAffinityRulesOut(t *testing.T) {
	const near, away, unwelcome = "node(s) didn't match pod affinity rules!", "node(s) didn't match pod anti-affinity rules", "node(s) didn't satisfy existing pods anti-affinity rules"
	const host = corev1.LabelHostname
	allSpaces := func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = &metav1.LabelSelector{} }
	named := func(t *corev1.PodAffinityTerm) { t.Namespaces = []string{"other"} }
	nobody := func(t *corev1.PodAffinityTerm) { t.LabelSelector = nil }
	matching := func(k string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) { t.MatchLabelKeys = []string{k} }
	}
	mismatching := func(k string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) { t.MismatchLabelKeys = []string{k} }
	}
	rev := func(r string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels["rev"] = r } }
	for name, x := range map[string]struct {
		pod   *corev1.Pod
		spots []spot
		want  []string
	}{
		"nothing asked":                     {newcomer(), []spot{in("1"), in("2", app("db", 1)...)}, []string{"ok", "ok"}},
		"beside db, by node":                {newcomer(besides(podTerm(host, "db"))), []spot{in("1"), in("1", app("db", 1)...)}, []string{near, "ok"}},
		"beside db, by zone":                {newcomer(besides(podTerm("zone", "db"))), []spot{in("1"), in("1", app("db", 1)...), in("2")}, []string{"ok", "ok", near}},
		"beside nobody that is there":       {newcomer(besides(podTerm("zone", "db"))), []spot{in("1"), in("2", app("web", 1)...)}, []string{near, near}},
		"a node without the label":          {newcomer(besides(podTerm("zone", "db"))), []spot{in("1").without("zone"), in("1", app("db", 1)...)}, []string{near, "ok"}},
		"db of another namespace":           {newcomer(besides(podTerm("zone", "db"))), []spot{in("1", app("db", 1, apart)...)}, []string{near}},
		"the same, named":                   {newcomer(besides(podTerm("zone", "db", named))), []spot{in("1", app("db", 1, apart)...), in("2", app("db", 1)...)}, []string{"ok", near}},
		"the same, by its team":             {newcomer(besides(podTerm("zone", "db", namespacesOf("y")))), []spot{in("1", app("db", 1, apart)...), in("2", app("db", 1)...)}, []string{"ok", near}},
		"any namespace":                     {newcomer(besides(podTerm("zone", "db", allSpaces))), []spot{in("1", app("db", 1, apart)...), in("2", app("db", 1)...), in("3")}, []string{"ok", "ok", near}},
		"named and of a team":               {newcomer(besides(podTerm("zone", "db", named, namespacesOf("x")))), []spot{in("1", app("db", 1, apart)...), in("2", app("db", 1)...), in("3")}, []string{"ok", "ok", near}},
		"the first of its kind":             {newcomer(besides(podTerm("zone", "web"))), []spot{in("1"), in("2", app("db", 1)...)}, []string{"ok", "ok"}},
		"the first, where a label is":       {newcomer(besides(podTerm("zone", "web"))), []spot{in("1"), in("2").without("zone")}, []string{"ok", near}},
		"the second":                        {newcomer(besides(podTerm("zone", "web"))), []spot{in("1"), in("2", app("web", 1)...)}, []string{near, "ok"}},
		"the first, for one of its terms":   {newcomer(besides(podTerm("zone", "web"), podTerm("zone", "db"))), []spot{in("1"), in("2")}, []string{near, near}},
		"one pod must match all terms":      {newcomer(besides(podTerm("zone", "web"), podTerm("zone", "db"))), []spot{in("1", append(app("web", 1), app("db", 1)...)...)}, []string{near}},
		"the first elsewhere counts not":    {newcomer(besides(podTerm("zone", "web", namespacesOf("y")))), []spot{in("1"), in("2")}, []string{near, near}},
		"two keys, in both domains":         {newcomer(besides(podTerm("zone", "db"), podTerm(host, "db"))), []spot{in("1"), in("1", app("db", 1)...)}, []string{near, "ok"}},
		"a term about nobody":               {newcomer(besides(podTerm("zone", "db", nobody))), []spot{in("1", app("db", 1)...)}, []string{near}},
		"away from db, by node":             {newcomer(awayFrom(podTerm(host, "db"))), []spot{in("1", app("db", 1)...), in("1")}, []string{away, "ok"}},
		"away from db, by zone":             {newcomer(awayFrom(podTerm("zone", "db"))), []spot{in("1", app("db", 1)...), in("1"), in("2"), in("1").without("zone")}, []string{away, away, "ok", "ok"}},
		"away from db where no label is":    {newcomer(awayFrom(podTerm("rack", "db"))), []spot{in("1", app("db", 1)...)}, []string{"ok"}},
		"away from either":                  {newcomer(awayFrom(podTerm(host, "db"), podTerm("zone", "mq"))), []spot{in("1", app("db", 1)...), in("1"), in("2", app("mq", 1)...), in("2")}, []string{away, "ok", away, away}},
		"away from db of another team":      {newcomer(awayFrom(podTerm(host, "db", namespacesOf("y")))), []spot{in("1", app("db", 1)...), in("1", app("db", 1, apart)...)}, []string{"ok", away}},
		"unwelcome, by node":                {newcomer(), []spot{in("1", app("db", 1, awayFrom(podTerm(host, "web")))...), in("1")}, []string{unwelcome, "ok"}},
		"unwelcome, by zone":                {newcomer(), []spot{in("1", app("db", 1, awayFrom(podTerm("zone", "web")))...), in("1"), in("2")}, []string{unwelcome, unwelcome, "ok"}},
		"unwelcome to another namespace":    {newcomer(), []spot{in("1", app("db", 1, apart, awayFrom(podTerm("zone", "web")))...)}, []string{"ok"}},
		"the same, by team":                 {newcomer(), []spot{in("1", app("db", 1, apart, awayFrom(podTerm("zone", "web", namespacesOf("x"))))...)}, []string{unwelcome}},
		"mutual":                            {newcomer(awayFrom(podTerm("zone", "web"))), []spot{in("1", app("web", 1, awayFrom(podTerm("zone", "web")))...), in("2")}, []string{away, "ok"}},
		"beside, and away":                  {newcomer(besides(podTerm("zone", "db")), awayFrom(podTerm(host, "mq"))), []spot{in("1", app("mq", 1)...), in("1", app("db", 1)...), in("2")}, []string{away, "ok", near}},
		"of its own revision":               {newcomer(rev("2"), besides(podTerm(host, "db", matching("rev")))), []spot{in("1", app("db", 1, rev("1"))...), in("1", app("db", 1, rev("2"))...)}, []string{near, "ok"}},
		"not of its own revision":           {newcomer(rev("2"), awayFrom(podTerm(host, "db", mismatching("rev")))), []spot{in("1", app("db", 1, rev("1"))...), in("1", app("db", 1, rev("2"))...)}, []string{away, "ok"}},
		"preferences rule nobody out":       {newcomer(likes(5, podTerm(host, "db")), dislikes(5, podTerm(host, "mq"))), []spot{in("1", app("mq", 1)...)}, []string{"ok"}},
		"pods on their way out still count": {newcomer(awayFrom(podTerm(host, "db"))), []spot{in("1", app("db", 1, leavingPod)...)}, []string{away}},
	} {
		if got, _ := judge(t, NewInterPodAffinity(teams, nil, 1, false), x.pod, x.spots); !slices.Equal(got, x.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, x.want)
		}
	}
}

// The same for scoring: sums of weights, from the least of all nodes to the most.
func TestAffinityScores(t *testing.T) {
	const host = corev1.LabelHostname
	for name, x := range map[string]struct {
		pod    *corev1.Pod
		hard   int32
		ignore bool
		spots  []spot
		want   []int64
	}{
		"nobody is meant":                   {newcomer(likes(5, podTerm("zone", "db"))), 1, false, []spot{in("1"), in("2")}, []int64{0, 0}},
		"beside db":                         {newcomer(likes(5, podTerm("zone", "db"))), 1, false, []spot{in("1", app("db", 1)...), in("1"), in("2")}, []int64{100, 100, 0}},
		"more of them are better":           {newcomer(likes(5, podTerm("zone", "db"))), 1, false, []spot{in("1", app("db", 1)...), in("2", app("db", 2)...), in("3")}, []int64{50, 100, 0}},
		"the least is nothing":              {newcomer(likes(5, podTerm("zone", "db"))), 1, false, []spot{in("1", app("db", 1)...), in("2", app("db", 2)...), in("3", app("db", 3)...)}, []int64{0, 50, 100}},
		"all alike":                         {newcomer(likes(5, podTerm("zone", "db"))), 1, false, []spot{in("1", app("db", 2)...), in("2", app("db", 2)...)}, []int64{0, 0}},
		"rather not beside db":              {newcomer(dislikes(5, podTerm("zone", "db"))), 1, false, []spot{in("1", app("db", 1)...), in("2")}, []int64{0, 100}},
		"the most is nothing disliked less": {newcomer(dislikes(5, podTerm("zone", "db"))), 1, false, []spot{in("1", app("db", 1)...), in("2", app("db", 2)...), in("3", app("db", 3)...)}, []int64{100, 50, 0}},
		"two preferences":                   {newcomer(likes(8, podTerm("zone", "db")), dislikes(4, podTerm(host, "mq"))), 1, false, []spot{in("1", app("db", 1)...), in("1", app("mq", 1)...), in("2")}, []int64{100, 50, 0}},
		"db would like it":                  {newcomer(), 1, false, []spot{in("1", app("db", 1, likes(5, podTerm("zone", "web")))...), in("2")}, []int64{100, 0}},
		"db would rather not":               {newcomer(), 1, false, []spot{in("1", app("db", 1, dislikes(5, podTerm("zone", "web")))...), in("2")}, []int64{0, 100}},
		"db requires it":                    {newcomer(), 1, false, []spot{in("1", app("db", 1, besides(podTerm("zone", "web")))...), in("2")}, []int64{100, 0}},
		"as much as is said":                {newcomer(), 50, false, []spot{in("1", app("db", 1, besides(podTerm("zone", "web")))...), in("2", app("db", 1, likes(100, podTerm("zone", "web")))...), in("3")}, []int64{50, 100, 0}},
		"for nothing":                       {newcomer(), 0, false, []spot{in("1", app("db", 1, besides(podTerm("zone", "web")))...), in("2")}, nil},
		"others' preferences ignored":       {newcomer(), 1, true, []spot{in("1", app("db", 1, likes(5, podTerm("zone", "web")))...), in("2")}, nil},
		"not when it has its own":           {newcomer(likes(5, podTerm("zone", "mq"))), 1, true, []spot{in("1", app("db", 1, likes(5, podTerm("zone", "web")))...), in("2")}, []int64{100, 0}},
		"of another namespace":              {newcomer(likes(5, podTerm("zone", "db"))), 1, false, []spot{in("1", app("db", 1, apart)...), in("2", app("db", 1)...)}, []int64{0, 100}},
		"of another team":                   {newcomer(likes(5, podTerm("zone", "db", namespacesOf("y")))), 1, false, []spot{in("1", app("db", 1, apart)...), in("2", app("db", 1)...)}, []int64{100, 0}},
	} {
		if _, got := judge(t, NewInterPodAffinity(teams, nil, x.hard, x.ignore), x.pod, x.spots); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}
