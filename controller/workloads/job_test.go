package workloads

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestIndexes(t *testing.T) {
	for in, want := range map[string]string{"": "", "0": "0", "3,1,2": "1-3", "1,2": "1,2", "0-2,4,6-7,9": "0-2,4,6,7,9", "8-12": "8,9", "x,1": "1"} {
		if got := parseIndexes(in, 10).String(); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// FuzzIndexes holds the printed form to its own reading.
func FuzzIndexes(f *testing.F) {
	f.Add("0-2,4,6-7")
	f.Add("9-1,-,x,007")
	f.Fuzz(func(t *testing.T, s string) {
		once := parseIndexes(s, 1000).String()
		if again := parseIndexes(once, 1000).String(); again != once {
			t.Fatalf("%q reads as %q, then as %q", s, once, again)
		}
	})
}

// jobWorld runs a Job's plans against simulated pods. It can lose any write, as
// a crash would.
type jobWorld struct {
	t    *testing.T
	job  *batchv1.Job
	pods map[string]*corev1.Pod
	now  time.Time
	made int
	// ended counts pods that really succeeded and failed.
	succeeded, failed int32
}

func newJob(t *testing.T, change func(*batchv1.JobSpec)) *jobWorld {
	one, six := int32(1), int32(6)
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "j", UID: "j"},
		Spec:       batchv1.JobSpec{Parallelism: &one, Completions: &one, BackoffLimit: &six},
	}
	change(&j.Spec)
	return &jobWorld{t: t, job: j, pods: map[string]*corev1.Pod{}, now: start}
}

func (w *jobWorld) list() (out []*corev1.Pod) {
	for _, p := range w.pods {
		out = append(out, p)
	}
	return out
}

// sync plans and carries out the first n steps of the plan, in the order the
// controller does.
func (w *jobWorld) sync(n int) jobPlan {
	plan := planJob(w.job, w.list(), w.now)
	if n--; n < 0 {
		return plan
	}
	for _, made := range plan.create {
		w.made++
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: fmt.Sprint("p", w.made), UID: types.UID(fmt.Sprint("p", w.made)),
			CreationTimestamp: metav1.NewTime(w.now), Finalizers: []string{batchv1.JobTrackingFinalizer},
		}}
		if made.index >= 0 {
			p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: strconv.Itoa(made.index), indexFailures: strconv.Itoa(made.failures), batchv1.JobIndexIgnoredFailureCountAnnotation: strconv.Itoa(made.ignored)}
		}
		w.pods[p.Name] = p
	}
	for _, p := range plan.delete {
		d := p.DeepCopy()
		at := metav1.NewTime(w.now)
		d.DeletionTimestamp = &at
		w.pods[p.Name] = d
	}
	if n--; n < 0 {
		return plan
	}
	next := w.job.DeepCopy()
	next.Status = *plan.status.DeepCopy()
	next.Status.Active += int32(len(plan.create))
	w.job = next
	for _, p := range plan.release {
		if n--; n < 0 {
			return plan
		}
		if d := w.pods[p.Name]; d != nil {
			d = d.DeepCopy()
			d.Finalizers = nil
			w.pods[p.Name] = d
			if d.DeletionTimestamp != nil && d.Status.Phase != corev1.PodRunning {
				delete(w.pods, p.Name)
			}
		}
	}
	return plan
}

// end lets a pod end; one being deleted fails.
func (w *jobWorld) end(name string, phase corev1.PodPhase, code int32) {
	p := w.pods[name].DeepCopy()
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	if p.DeletionTimestamp != nil {
		phase, code = corev1.PodFailed, 143
	}
	p.Status.Phase = phase
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(w.now)}}}}
	if phase == corev1.PodSucceeded {
		w.succeeded++
	} else {
		w.failed++
	}
	w.pods[name] = p
	if p.DeletionTimestamp != nil && !tracked(p) {
		delete(w.pods, name)
	}
}

func (w *jobWorld) live() (names []string) {
	for n, p := range w.pods {
		if p.Status.Phase == "" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

func (w *jobWorld) last() string {
	for _, c := range w.job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return string(c.Type) + " " + c.Reason
		}
	}
	return ""
}

func n32(n int32) *int32 { return &n }

// TestJobCountsEveryPodOnce kills the controller at every possible point of its
// writes; the counts are right in the end nevertheless.
func TestJobCountsEveryPodOnce(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		want := 1 + rng.Int32N(12)
		w := newJob(t, func(s *batchv1.JobSpec) {
			s.Completions, s.Parallelism, s.BackoffLimit = n32(want), n32(1+rng.Int32N(4)), n32(1000)
			if seed%2 == 0 {
				mode := batchv1.IndexedCompletion
				s.CompletionMode = &mode
			}
		})
		for range 4000 {
			if w.last() != "" {
				break
			}
			w.sync(rng.IntN(6))
			if live := w.live(); len(live) > 0 && rng.IntN(2) == 0 {
				phase := corev1.PodSucceeded
				if rng.IntN(4) == 0 {
					phase = corev1.PodFailed
				}
				w.end(live[rng.IntN(len(live))], phase, 1)
			}
			if rng.IntN(10) == 0 {
				w.now = w.now.Add(time.Minute)
			}
		}
		s := w.job.Status
		if w.last() != "Complete CompletionsReached" || s.Succeeded != want || s.Failed != w.failed || s.CompletionTime == nil || s.Active != 0 {
			t.Fatalf("seed %d: want %d and %d failed, have %q %+v", seed, want, w.failed, w.last(), s)
		}
		if *w.job.Spec.Completions == want && w.job.Spec.CompletionMode == nil && w.succeeded != s.Succeeded {
			t.Fatalf("seed %d: %d pods succeeded, %d counted", seed, w.succeeded, s.Succeeded)
		}
	}
}

// run has the Job worked on until it ends; judge says how each pod ends.
func (w *jobWorld) run(judge func(p *corev1.Pod) (corev1.PodPhase, int32)) {
	for range 500 {
		w.sync(1000)
		if w.last() != "" {
			w.sync(1000)
			return
		}
		for _, n := range w.live() {
			phase, code := judge(w.pods[n])
			w.end(n, phase, code)
		}
		w.now = w.now.Add(15 * time.Minute)
	}
	w.t.Fatalf("does not end: %+v", w.job.Status)
}

func fails(*corev1.Pod) (corev1.PodPhase, int32) { return corev1.PodFailed, 1 }

func TestJobEnds(t *testing.T) {
	indexed := batchv1.IndexedCompletion
	for name, c := range map[string]struct {
		spec   func(*batchv1.JobSpec)
		judge  func(*corev1.Pod) (corev1.PodPhase, int32)
		want   string
		failed int32
	}{
		"back-off limit": {func(s *batchv1.JobSpec) { s.BackoffLimit = n32(2) }, fails, "Failed BackoffLimitExceeded", 3},
		"policy ends it": {func(s *batchv1.JobSpec) {
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:      batchv1.PodFailurePolicyActionFailJob,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
			}}}
		}, func(*corev1.Pod) (corev1.PodPhase, int32) { return corev1.PodFailed, 42 }, "Failed PodFailurePolicy", 1},
		"one index is lost": {func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions, s.Parallelism, s.BackoffLimitPerIndex, s.BackoffLimit = &indexed, n32(3), n32(3), n32(1), n32(100)
		}, func(p *corev1.Pod) (corev1.PodPhase, int32) {
			if indexOf(p) == 1 {
				return corev1.PodFailed, 1
			}
			return corev1.PodSucceeded, 0
		}, "Failed FailedIndexes", 2},
		"too many indexes lost": {func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions, s.Parallelism, s.BackoffLimitPerIndex, s.MaxFailedIndexes, s.BackoffLimit = &indexed, n32(5), n32(5), n32(0), n32(1), n32(100)
		}, fails, "Failed MaxFailedIndexesExceeded", 5},
		"ignored failures cost an index nothing": {func(s *batchv1.JobSpec) {
			s.CompletionMode, s.Completions, s.Parallelism, s.BackoffLimitPerIndex, s.BackoffLimit = &indexed, n32(2), n32(2), n32(0), n32(100)
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
				Action:      batchv1.PodFailurePolicyActionIgnore,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{7}},
			}}}
		}, func(p *corev1.Pod) (corev1.PodPhase, int32) {
			if ignoredOf(p) < 3 {
				return corev1.PodFailed, 7
			}
			return corev1.PodSucceeded, 0
		}, "Complete CompletionsReached", 0},
		"success policy": {func(s *batchv1.JobSpec) {
			leader := "0"
			s.CompletionMode, s.Completions, s.Parallelism = &indexed, n32(3), n32(1)
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: &leader}}}
		}, func(*corev1.Pod) (corev1.PodPhase, int32) { return corev1.PodSucceeded, 0 }, "Complete SuccessPolicy", 0},
		"work queue": {func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = nil, n32(3) },
			func(*corev1.Pod) (corev1.PodPhase, int32) { return corev1.PodSucceeded, 0 }, "Complete CompletionsReached", 0},
		"nothing to do": {func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = n32(0), n32(0) }, fails, "Complete CompletionsReached", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newJob(t, c.spec)
			w.run(c.judge)
			if w.last() != c.want || w.job.Status.Failed != c.failed {
				t.Fatalf("%s, %d failed: %+v", w.last(), w.job.Status.Failed, w.job.Status)
			}
			for _, p := range w.pods {
				if tracked(p) {
					t.Fatalf("%s still waits to be counted", p.Name)
				}
			}
		})
	}
}

func TestJobDeadline(t *testing.T) {
	seconds := int64(30)
	w := newJob(t, func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = &seconds })
	if p := w.sync(1000); p.after != 30*time.Second {
		t.Fatal(p.after)
	}
	w.now = w.now.Add(31 * time.Second)
	w.sync(1000)
	if len(w.live()) != 1 || w.pods["p1"].DeletionTimestamp == nil || w.last() != "" {
		t.Fatalf("%v %s", w.live(), w.last())
	}
	w.end("p1", corev1.PodFailed, 143)
	w.sync(1000)
	w.sync(1000)
	if w.last() != "Failed DeadlineExceeded" {
		t.Fatal(w.last())
	}
}

func TestJobSuspendAndResume(t *testing.T) {
	w := newJob(t, func(s *batchv1.JobSpec) { s.Parallelism, s.Completions = n32(2), n32(2) })
	w.sync(1000)
	yes, no := true, false
	w.job.Spec.Suspend = &yes
	w.sync(1000)
	if w.job.Status.StartTime != nil || w.job.Status.Active != 0 || w.pods["p1"].DeletionTimestamp == nil {
		t.Fatalf("%+v", w.job.Status)
	}
	for _, n := range w.live() {
		w.end(n, corev1.PodFailed, 143)
	}
	w.sync(1000)
	w.job.Spec.Suspend = &no
	w.now = w.now.Add(time.Hour)
	w.run(func(*corev1.Pod) (corev1.PodPhase, int32) { return corev1.PodSucceeded, 0 })
	if w.last() != "Complete CompletionsReached" || w.job.Status.Succeeded != 2 {
		t.Fatalf("%+v", w.job.Status)
	}
}

func TestFailureBacksOff(t *testing.T) {
	w := newJob(t, func(*batchv1.JobSpec) {})
	w.sync(1000)
	w.end("p1", corev1.PodFailed, 1)
	p := w.sync(1000)
	if len(p.create) != 0 || p.after != 10*time.Second {
		t.Fatal(p.create, p.after)
	}
	w.now = w.now.Add(10 * time.Second)
	if p := w.sync(1000); len(p.create) != 1 {
		t.Fatal("not replaced after the delay")
	}
}
