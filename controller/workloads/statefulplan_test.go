package workloads

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type statefulWorld struct {
	t      *testing.T
	set    *appsv1.StatefulSet
	update string
	pods   map[string]*corev1.Pod
}

func newStateful(t *testing.T, size int32) *statefulWorld {
	return &statefulWorld{t: t, update: "r1", pods: map[string]*corev1.Pod{}, set: &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"},
		Spec:       appsv1.StatefulSetSpec{Replicas: &size, UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType}},
	}}
}

func (w *statefulWorld) plan() statefulPlan {
	var pods []*corev1.Pod
	for _, p := range w.pods {
		pods = append(pods, p)
	}
	status := w.set.Status
	if status.CurrentRevision == "" {
		status.CurrentRevision = w.update
	}
	status.UpdateRevision = w.update
	plan := planStateful(w.set, pods, status, start)
	if w.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement && len(plan.create) > 1 {
		w.t.Fatalf("an ordered set makes %d pods at once", len(plan.create))
	}
	for _, made := range plan.create {
		name := fmt.Sprint("db-", made.ordinal)
		if w.pods[name] != nil {
			w.t.Fatalf("makes %s, which is there", name)
		}
		revision := w.update
		if made.current {
			revision = status.CurrentRevision
		}
		w.pods[name] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{revisionHashLabel: revision}}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	}
	for _, p := range plan.delete {
		d := p.DeepCopy()
		now := metav1.NewTime(start)
		d.DeletionTimestamp = &now
		w.pods[p.Name] = d
	}
	next := w.set.DeepCopy()
	next.Status = plan.status
	w.set = next
	return plan
}

func (w *statefulWorld) act(rng *rand.Rand) {
	var names []string
	for n := range w.pods {
		names = append(names, n)
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	p := w.pods[names[rng.IntN(len(names))]].DeepCopy()
	if p.DeletionTimestamp != nil {
		delete(w.pods, p.Name)
		return
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	w.pods[p.Name] = p
}

func (w *statefulWorld) settle(rng *rand.Rand) {
	for range 600 {
		w.plan()
		w.act(rng)
	}
	w.plan()
	s, want := w.set.Status, *w.set.Spec.Replicas
	if int32(len(w.pods)) != want || s.Replicas != want || s.ReadyReplicas != want || s.AvailableReplicas != want {
		w.t.Fatalf("did not settle: %d pods, %+v", len(w.pods), s)
	}
}

func (w *statefulWorld) unhealthy() (n int) {
	for i := range int(*w.set.Spec.Replicas) {
		p := w.pods[fmt.Sprint("db-", i)]
		if p == nil || p.DeletionTimestamp != nil || !healthy(w.set, p, start) {
			n++
		}
	}
	return n
}

// TestStatefulOrder grows, updates and shrinks sets in random order of events:
// an ordered set never has a gap below a pod that it starts, never two pods of
// it missing during an update, and the update goes from the last to the first.
func TestStatefulOrder(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 6))
		w := newStateful(t, 1+rng.Int32N(6))
		room := 1
		if seed%3 == 1 {
			w.set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		}
		if seed%3 == 2 {
			two := intstr.FromInt32(2)
			room = 2
			w.set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: &two}
		}
		w.settle(rng)
		w.update = "r2"
		for i := range 400 {
			if rng.IntN(2) == 0 {
				w.plan()
			} else {
				w.act(rng)
			}
			if n := w.unhealthy(); n > room {
				t.Fatalf("seed %d step %d: %d pods missing during an update", seed, i, n)
			}
			seenOld := false
			for i := int(*w.set.Spec.Replicas) - 1; i >= 0; i-- {
				if p := w.pods[fmt.Sprint("db-", i)]; p != nil {
					isOld := p.Labels[revisionHashLabel] == "r1" && p.DeletionTimestamp == nil
					if seenOld && !isOld && room == 1 {
						t.Fatalf("seed %d: db-%d was updated before one above it", seed, i)
					}
					seenOld = seenOld || isOld
				}
			}
		}
		w.settle(rng)
		s := w.set.Status
		if s.CurrentRevision != "r2" || s.UpdatedReplicas != *w.set.Spec.Replicas || s.CurrentReplicas != *w.set.Spec.Replicas {
			t.Fatalf("%+v", s)
		}
		size := rng.Int32N(4)
		w.set.Spec.Replicas = &size
		w.settle(rng)
	}
}

func TestStatefulPartition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 7))
	w := newStateful(t, 4)
	w.settle(rng)
	w.set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: n32(2)}
	w.update = "r2"
	w.settle(rng)
	for i, want := range []string{"r1", "r1", "r2", "r2"} {
		if got := w.pods[fmt.Sprint("db-", i)].Labels[revisionHashLabel]; got != want {
			t.Fatalf("db-%d is of %s", i, got)
		}
	}
	if s := w.set.Status; s.CurrentRevision != "r1" || s.UpdateRevision != "r2" || s.CurrentReplicas != 2 || s.UpdatedReplicas != 2 {
		t.Fatalf("%+v", s)
	}
	// A pod lost below the partition comes back as it was.
	delete(w.pods, "db-0")
	w.settle(rng)
	if got := w.pods["db-0"].Labels[revisionHashLabel]; got != "r1" {
		t.Fatal(got)
	}
}

// TestStatefulOnDelete has pods replaced only as somebody deletes them; once all of
// them are, the new revision is the current one.
func TestStatefulOnDelete(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 8))
	w := newStateful(t, 3)
	w.set.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
	w.settle(rng)
	w.update = "r2"
	for i, want := range []struct {
		current          string
		replicas, update int32
	}{{"r1", 2, 1}, {"r1", 1, 2}, {"r2", 3, 3}} {
		w.settle(rng)
		delete(w.pods, fmt.Sprint("db-", i))
		w.settle(rng)
		if s := w.set.Status; s.CurrentRevision != want.current || s.CurrentReplicas != want.replicas || s.UpdatedReplicas != want.update {
			t.Fatalf("%d deleted: %+v", i+1, s)
		}
	}
}

// TestStatefulBadUpdateCanBeUndone has an update whose first pod never becomes
// ready: the next template, the old one or another, replaces it without waiting
// for it, in ordered sets too.
func TestStatefulBadUpdateCanBeUndone(t *testing.T) {
	for _, policy := range []appsv1.PodManagementPolicyType{appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement} {
		for _, next := range []string{"r1", "r3"} {
			t.Run(fmt.Sprint(policy, " to ", next), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 8))
				w := newStateful(t, 3)
				w.settle(rng)
				w.set.Spec.PodManagementPolicy = policy
				w.update = "bad"
				w.plan()
				delete(w.pods, "db-2")
				w.plan()
				w.plan()
				if w.unhealthy() != 1 {
					t.Fatal("went on although its pod is not ready")
				}
				w.pods["db-2"].Status.Phase = corev1.PodRunning // and not ready
				w.update = next
				w.plan()
				if w.pods["db-2"].DeletionTimestamp == nil {
					t.Fatal("waits for a pod that nobody wants")
				}
				w.settle(rng)
			})
		}
	}
}

// TestStatefulBadBeginningCanBeMended has a set whose first template cannot run.
func TestStatefulBadBeginningCanBeMended(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	w := newStateful(t, 2)
	w.update = "bad"
	w.plan()
	w.set.Status.CurrentRevision = "bad"
	w.update = "r2"
	w.plan()
	if w.pods["db-0"].DeletionTimestamp == nil {
		t.Fatal("waits for a pod that has never run")
	}
	w.settle(rng)
}

// TestStatefulRoll has one look at a set in the middle of an update. Of a pod,
// 0 to the last: o of the old revision, n of the new; capital when it is not
// available, d when it is of the old one and being deleted, . when it is missing.
func TestStatefulRoll(t *testing.T) {
	for _, x := range []struct {
		pods      string
		most      string // maxUnavailable
		partition int32
		want      []string // deleted, in this order
	}{
		{"ooooo", "1", 0, []string{"db-4"}},
		{"ooooo", "3", 0, []string{"db-4", "db-3", "db-2"}},
		{"ooooo", "50%", 0, []string{"db-4", "db-3"}},
		{"ooooo", "10%", 0, []string{"db-4"}},
		{"ooooo", "100%", 3, []string{"db-4", "db-3"}},
		// Broken ones of the old revision go whatever the budget, and before others.
		{"Ooooo", "1", 0, []string{"db-0"}},
		{"OOooo", "2", 0, []string{"db-1", "db-0"}},
		{"OOOOO", "1", 0, []string{"db-4", "db-3", "db-2", "db-1", "db-0"}},
		{"oOooo", "3", 0, []string{"db-1", "db-4", "db-3"}},
		{"oOooN", "1", 0, []string{"db-1"}},
		// The others wait for those of the new one, and for those on their way.
		{"ooooN", "1", 0, nil},
		{"ooooN", "2", 0, []string{"db-3"}},
		{"oooNn", "1", 0, nil},
		{"ooodd", "2", 0, nil},
		{"ooood", "2", 0, []string{"db-3"}},
		{"ooo.o", "1", 0, nil},
		// Those below the partition stay as they are, and count.
		{"OoOoo", "2", 2, []string{"db-2"}},
		{"Ooooo", "1", 2, nil},
		{"Ooooo", "2", 2, []string{"db-4"}},
		{"nnnnn", "5", 0, nil},
	} {
		w := newStateful(t, int32(len(x.pods)))
		w.set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		most := intstr.Parse(x.most)
		w.set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: &most, Partition: &x.partition}
		w.set.Status.CurrentRevision, w.update = "r1", "r2"
		for i, what := range x.pods {
			if what == '.' {
				continue
			}
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("db-", i), Labels: map[string]string{revisionHashLabel: "r1"}}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
			if unicode.ToLower(what) == 'n' {
				p.Labels[revisionHashLabel] = "r2"
			}
			if unicode.IsLower(what) {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			}
			if what == 'd' {
				p.DeletionTimestamp = &metav1.Time{Time: start}
			}
			w.pods[p.Name] = p
		}
		var got []string
		for _, p := range w.plan().delete {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s, %s unavailable, from %d on: deletes %v, want %v", x.pods, x.most, x.partition, got, x.want)
		}
	}
}

// TestStatefulUpdateWaitsForASickPod: a pod that ran and is not ready for now is
// not replaced out of order.
func TestStatefulUpdateWaitsForASickPod(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 10))
	w := newStateful(t, 3)
	w.settle(rng)
	sick := w.pods["db-1"].DeepCopy()
	sick.Status.Conditions[0].Status = corev1.ConditionFalse
	w.pods["db-1"] = sick
	w.update = "r2"
	if plan := w.plan(); len(plan.delete) > 0 {
		t.Fatalf("deletes %s", plan.delete[0].Name)
	}
	w.settle(rng)
}

func TestOrdinalOf(t *testing.T) {
	set := newStateful(t, 1).set
	for name, want := range map[string]int{"db-0": 0, "db-12": 12, "db-": -1, "db-01": -1, "db-x": -1, "db": -1, "dbx-1": -1, "db--1": -1} {
		if got := ordinalOf(set, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}
