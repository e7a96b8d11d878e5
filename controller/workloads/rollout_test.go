package workloads

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func deployment(replicas int32, surge, unavailable string) *appsv1.Deployment {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	deadline, history := int32(600), int32(10)
	l := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}},
			},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u},
			},
			ProgressDeadlineSeconds: &deadline, RevisionHistoryLimit: &history,
		},
	}
}

// world simulates what surrounds the planner: ReplicaSets with pods that are
// available or not, whose status the planner sees late.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	d    *appsv1.Deployment
	sets map[string]*simSet
	now  time.Time
	made int
}

type simSet struct {
	rs          *appsv1.ReplicaSet
	ready, slow int32 // pods available, and not yet
	broken      bool  // its pods never become available
}

func newWorld(t *testing.T, d *appsv1.Deployment, rng *rand.Rand) *world {
	return &world{t: t, rng: rng, d: d, sets: map[string]*simSet{}, now: start}
}

func (w *world) list() (out []*appsv1.ReplicaSet) {
	for _, s := range w.sets {
		out = append(out, s.rs)
	}
	return out
}

// plan runs the planner once and carries its plan out.
func (w *world) plan() bool {
	before := w.d.DeepCopy()
	p := planRollout(w.d, w.list(), func(rs *appsv1.ReplicaSet) bool {
		s := w.sets[rs.Name]
		return s.ready+s.slow > 0
	}, w.now)
	if !sameDeployment(before, w.d) {
		w.t.Fatal("planner changed its argument")
	}
	if p.create != nil {
		if w.sets[p.create.Name] != nil {
			w.t.Fatalf("planned to make %s, which exists", p.create.Name)
		}
		rs := p.create.DeepCopy()
		w.made++
		rs.UID, rs.Generation = types.UID(fmt.Sprint("rs", w.made)), 1
		rs.CreationTimestamp = metav1.NewTime(w.now.Add(time.Duration(w.made) * time.Second))
		w.sets[rs.Name] = &simSet{rs: rs, broken: rs.Spec.Template.Spec.Containers[0].Image == "broken"}
	}
	for _, rs := range p.update {
		next := rs.DeepCopy()
		next.Generation++
		w.sets[rs.Name].rs = next
	}
	for _, rs := range p.delete {
		if s := w.sets[rs.Name]; s.ready+s.slow > 0 {
			w.t.Fatalf("deleted %s with pods", rs.Name)
		}
		delete(w.sets, rs.Name)
	}
	changed := p.create != nil || len(p.update)+len(p.delete) > 0 || !sameDeploymentStatus(w.d, p.status)
	w.d = p.status.DeepCopy()
	return changed
}

func sameDeployment(a, b *appsv1.Deployment) bool {
	return sameDeploymentStatus(a, b) && *a.Spec.Replicas == *b.Spec.Replicas
}

// act lets one set make or end pods, one pod become available, or a status
// become known.
func (w *world) act() {
	names := make([]string, 0, len(w.sets))
	for n := range w.sets {
		names = append(names, n)
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	s := w.sets[names[w.rng.IntN(len(names))]]
	switch w.rng.IntN(3) {
	case 0:
		s.settle()
	case 1:
		if s.slow > 0 && !s.broken {
			s.slow--
			s.ready++
		}
	case 2:
		s.report()
	}
}

func (s *simSet) settle() {
	want := *s.rs.Spec.Replicas
	if have := s.ready + s.slow; have < want {
		s.slow += want - have
	} else {
		over := have - want
		n := min(over, s.slow)
		s.slow -= n
		s.ready -= over - n
	}
}

func (s *simSet) report() {
	next := s.rs.DeepCopy()
	next.Status.Replicas, next.Status.ReadyReplicas, next.Status.AvailableReplicas = s.ready+s.slow, s.ready, s.ready
	next.Status.ObservedGeneration = next.Generation
	s.rs = next
}

func (w *world) available() (n int32) {
	for _, s := range w.sets {
		n += s.ready
	}
	return n
}

func (w *world) pods() (n int32) {
	for _, s := range w.sets {
		n += s.ready + s.slow
	}
	return n
}

func (w *world) setImage(image string) {
	next := w.d.DeepCopy()
	next.Spec.Template.Spec.Containers[0].Image = image
	next.Generation++
	w.d = next
}

// settle runs everything to the end, fairly.
func (w *world) settle() {
	for range 400 {
		changed := w.plan()
		for _, s := range w.sets {
			before := *s
			s.settle()
			if !s.broken {
				s.ready += s.slow
				s.slow = 0
			}
			s.report()
			changed = changed || before.ready != s.ready || before.slow != s.slow || before.rs.Status.AvailableReplicas != s.rs.Status.AvailableReplicas
		}
		if !changed {
			return
		}
	}
	w.t.Fatalf("did not settle: %+v", w.d.Status)
}

func (w *world) mustBeComplete(image string) {
	w.t.Helper()
	want := *w.d.Spec.Replicas
	s := w.d.Status
	if s.Replicas != want || s.UpdatedReplicas != want || s.AvailableReplicas != want || w.pods() != want {
		w.t.Fatalf("not complete: %+v, %d pods, want %d", s, w.pods(), want)
	}
	for _, set := range w.sets {
		if n := *set.rs.Spec.Replicas; n > 0 && set.rs.Spec.Template.Spec.Containers[0].Image != image {
			w.t.Fatalf("%s still has %d replicas", set.rs.Name, n)
		}
	}
	if want > 0 {
		if c := deploymentCondition(&s, appsv1.DeploymentProgressing); c == nil || c.Reason != "NewReplicaSetAvailable" {
			w.t.Fatalf("progressing condition is %+v", c)
		}
	}
}

// TestRollingUpdateKeepsItsBounds rolls out versions, broken ones too, in random
// order of everything that happens around the planner, with statuses seen late.
func TestRollingUpdateKeepsItsBounds(t *testing.T) {
	shares := []string{"0", "1", "3", "25%", "50%", "100%"}
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := deployment(rng.Int32N(12), shares[rng.IntN(len(shares))], shares[rng.IntN(len(shares))])
		w := newWorld(t, d, rng)
		w.settle()
		most := *d.Spec.Replicas + maxSurge(d)
		least := *d.Spec.Replicas - maxUnavailable(d)
		check := func(what string) {
			t.Helper()
			if n := w.available(); n < least {
				t.Fatalf("seed %d, %s: %d pods available, must be %d", seed, what, n, least)
			}
			if n := w.pods(); n > most {
				t.Fatalf("seed %d, %s: %d pods, may be %d", seed, what, n, most)
			}
		}
		check("start")
		images := []string{"v2", "v3", "broken", "v2", "v1"}
		for i := range 400 {
			if i%80 == 40 {
				w.setImage(images[rng.IntN(len(images))])
			}
			if rng.IntN(3) == 0 {
				w.plan()
				check(fmt.Sprint("plan ", i))
			} else {
				w.act()
				check(fmt.Sprint("step ", i))
			}
			w.now = w.now.Add(time.Second)
		}
		w.setImage("last")
		w.settle()
		check("end")
		w.mustBeComplete("last")
	}
}

// TestScalingConverges changes the size in the middle of rollouts.
func TestScalingConverges(t *testing.T) {
	for seed := range uint64(35) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(t, deployment(rng.Int32N(20), "25%", "25%"), rng)
		for i := range 300 {
			switch {
			case i%70 == 10:
				w.setImage(fmt.Sprint("v", rng.IntN(3)))
			case i%50 == 20:
				next := w.d.DeepCopy()
				n := rng.Int32N(20)
				next.Spec.Replicas = &n
				next.Spec.Paused = rng.IntN(4) == 0
				next.Generation++
				w.d = next
			}
			if rng.IntN(3) == 0 {
				w.plan()
			} else {
				w.act()
			}
		}
		next := w.d.DeepCopy()
		next.Spec.Paused = false
		w.d = next
		w.setImage("last")
		w.settle()
		w.mustBeComplete("last")
	}
}

func TestRecreateNeverRunsTwoVersions(t *testing.T) {
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 3))
		d := deployment(4, "0", "0")
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		w := newWorld(t, d, rng)
		w.settle()
		for i := range 200 {
			if i%50 == 20 {
				w.setImage(fmt.Sprint("v", rng.IntN(4)))
			}
			if rng.IntN(2) == 0 {
				w.plan()
			} else {
				w.act()
			}
			versions := 0
			for _, s := range w.sets {
				if s.ready+s.slow > 0 {
					versions++
				}
			}
			if versions > 1 {
				t.Fatalf("seed %d: pods of %d versions at step %d", seed, versions, i)
			}
		}
		w.setImage("last")
		w.settle()
		w.mustBeComplete("last")
	}
}

func TestRevisionsAndHistory(t *testing.T) {
	w := newWorld(t, deployment(2, "25%", "25%"), rand.New(rand.NewPCG(1, 1)))
	w.d.Annotations = map[string]string{"kubernetes.io/change-cause": "first", corev1.LastAppliedConfigAnnotation: "{}"}
	w.settle()
	w.d.Annotations["kubernetes.io/change-cause"] = "second"
	w.setImage("v2")
	w.settle()
	revisions := func() map[string]string {
		out := map[string]string{}
		for _, s := range w.sets {
			out[s.rs.Spec.Template.Spec.Containers[0].Image] = s.rs.Annotations[revisionAnnotation] + " " + s.rs.Annotations["kubernetes.io/change-cause"]
			if _, copied := s.rs.Annotations[corev1.LastAppliedConfigAnnotation]; copied {
				t.Fatal("the last applied configuration was copied to a set")
			}
		}
		return out
	}
	if got := revisions(); got["v1"] != "1 first" || got["v2"] != "2 second" {
		t.Fatal(got)
	}
	w.setImage("v1") // undo
	w.settle()
	if got := revisions(); got["v1"] != "3 second" || got["v2"] != "2 second" {
		t.Fatal(got)
	}
	if w.d.Annotations[revisionAnnotation] != "3" {
		t.Fatal(w.d.Annotations)
	}
	for _, s := range w.sets {
		if s.rs.Spec.Template.Spec.Containers[0].Image == "v1" && s.rs.Annotations[historyAnnotation] != "1" {
			t.Fatal(s.rs.Annotations)
		}
	}
	limit := int32(1)
	w.d.Spec.RevisionHistoryLimit = &limit
	for i := range 4 {
		w.setImage(fmt.Sprint("w", i))
		w.settle()
	}
	if len(w.sets) != 2 {
		t.Fatalf("%d sets kept, want the current and one old", len(w.sets))
	}
}

func TestProgressDeadline(t *testing.T) {
	w := newWorld(t, deployment(2, "1", "0"), rand.New(rand.NewPCG(1, 1)))
	w.settle()
	w.setImage("broken")
	w.settle()
	c := deploymentCondition(&w.d.Status, appsv1.DeploymentProgressing)
	if c.Reason != "ReplicaSetUpdated" || c.Status != corev1.ConditionTrue {
		t.Fatal(c)
	}
	p := planRollout(w.d, w.list(), nil, w.now)
	if p.after != 601*time.Second {
		t.Fatalf("looks again in %s", p.after)
	}
	w.now = w.now.Add(601 * time.Second)
	w.plan()
	c = deploymentCondition(&w.d.Status, appsv1.DeploymentProgressing)
	if c.Reason != "ProgressDeadlineExceeded" || c.Status != corev1.ConditionFalse {
		t.Fatal(c)
	}
	if c := deploymentCondition(&w.d.Status, appsv1.DeploymentAvailable); c.Status != corev1.ConditionTrue {
		t.Fatal(c)
	}
	w.setImage("v1")
	w.settle()
	w.mustBeComplete("v1")
}

func TestPauseStopsRolloutNotScaling(t *testing.T) {
	w := newWorld(t, deployment(3, "1", "1"), rand.New(rand.NewPCG(1, 1)))
	w.settle()
	paused := w.d.DeepCopy()
	paused.Spec.Paused = true
	n := int32(5)
	paused.Spec.Replicas = &n
	w.d = paused
	w.setImage("v2")
	w.settle()
	if len(w.sets) != 1 || w.pods() != 5 {
		t.Fatalf("%d sets, %d pods", len(w.sets), w.pods())
	}
	if c := deploymentCondition(&w.d.Status, appsv1.DeploymentProgressing); c.Reason != "DeploymentPaused" || c.Status != corev1.ConditionUnknown {
		t.Fatal(c)
	}
	resumed := w.d.DeepCopy()
	resumed.Spec.Paused = false
	w.d = resumed
	w.settle()
	w.mustBeComplete("v2")
}

// TestProportionalScaling is upstream's documented example: ten replicas with
// eight of the old and five of the new version become fifteen.
func TestProportionalScaling(t *testing.T) {
	d := deployment(10, "3", "2")
	set := func(name, image string, size int32) *appsv1.ReplicaSet {
		tmpl := *d.Spec.Template.DeepCopy()
		tmpl.Spec.Containers[0].Image = image
		return &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{desiredAnnotation: "10", maxAnnotation: "13"}},
			Spec:       appsv1.ReplicaSetSpec{Replicas: &size, Template: tmpl},
		}
	}
	n := int32(15)
	d.Spec.Replicas = &n
	p := planRollout(d, []*appsv1.ReplicaSet{set("old", "v0", 8), set("new", "v1", 5)}, nil, start)
	got := map[string]int32{}
	for _, rs := range p.update {
		got[rs.Name] = *rs.Spec.Replicas
		if rs.Annotations[desiredAnnotation] != "15" || rs.Annotations[maxAnnotation] != "18" {
			t.Fatal(rs.Annotations)
		}
	}
	if got["old"] != 11 || got["new"] != 7 {
		t.Fatal(got)
	}
}

func TestFenceposts(t *testing.T) {
	for _, c := range []struct {
		n                  int32
		surge, unavailable string
		wantS, wantU       int32
	}{
		{10, "25%", "25%", 3, 2},
		{3, "25%", "25%", 1, 0},
		{1, "0", "25%", 0, 1},
		{4, "0", "0", 0, 1},
		{2, "0", "5", 0, 2},
		{0, "25%", "25%", 0, 0},
	} {
		d := deployment(c.n, c.surge, c.unavailable)
		if s, u := maxSurge(d), maxUnavailable(d); s != c.wantS || u != c.wantU {
			t.Errorf("%d replicas, %s, %s: surge %d, unavailable %d", c.n, c.surge, c.unavailable, s, u)
		}
	}
}

func TestTemplateHash(t *testing.T) {
	d := deployment(1, "1", "1")
	one := int32(1)
	a, b := templateHash(&d.Spec.Template, nil), templateHash(&d.Spec.Template, &one)
	if a == b {
		t.Fatal("the collision count changes nothing")
	}
	if a != templateHash(d.Spec.Template.DeepCopy(), nil) {
		t.Fatal("a copy has another hash")
	}
	d.Spec.Template.Spec.Containers[0].Image = "other"
	if a == templateHash(&d.Spec.Template, nil) {
		t.Fatal("the image changes nothing")
	}
}

func TestSameTemplateIgnoresOnlyTheHash(t *testing.T) {
	d := deployment(1, "1", "1")
	a, b := d.Spec.Template.DeepCopy(), d.Spec.Template.DeepCopy()
	b.Labels = withLabel(b.Labels, "x")
	if !sameTemplate(a, b, hashLabel) || !sameTemplate(b, a, hashLabel) {
		t.Fatal("the hash label counts")
	}
	b.Labels["more"] = "1"
	if sameTemplate(a, b, hashLabel) || sameTemplate(b, a, hashLabel) {
		t.Fatal("another label does not count")
	}
}

func TestHistoryIsCut(t *testing.T) {
	h := ""
	for i := range 1000 {
		h = appendHistory(h, strconv.Itoa(i))
	}
	if len(h) > maxHistoryCharacter || h[len(h)-3:] != "999" {
		t.Fatal(len(h), h[len(h)-10:])
	}
}
