package scheduler

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/client"
	"sagong/scheduler/configuration"
	"sagong/scheduler/plugins"
	"sagong/scheduler/state"
)

// The scheduler alone on 5,000 nodes, as upstream measures it: pods come in,
// are placed, and their bindings are seen again as the API would show them. The
// API itself is left out.

const benchNodes = 5000

// lab is a scheduler whose writes come true at once.
type lab struct {
	*Scheduler
	bound, gone int
	space       map[string]labels.Set
}

func newLab(b *testing.B) *lab {
	l := &lab{space: map[string]labels.Set{}}
	c := configuration.Default()
	shared := plugins.Share(plugins.Deps{})
	shared.Namespaces = func(name string) labels.Set { return l.space[name] }
	p, err := newProfile(&c.Profiles[0], shared)
	if err != nil {
		b.Fatal(err)
	}
	l.Scheduler = &Scheduler{
		cfg: Config{Now: time.Now}, profiles: map[string]*profile{p.name: p}, events: map[string]client.Recorder{p.name: noEvents{}},
		queue: newQueue(c.InitialBackoff, c.MaxBackoff), state: state.New(), freed: map[string]bool{}, writes: make(chan []write, 1<<16),
	}
	for i := range benchNodes {
		l.nodeChanged(nil, node(fmt.Sprint("n", i), func(n *corev1.Node) {
			n.Labels[corev1.LabelTopologyZone] = fmt.Sprint("zone", i%3)
			n.Status.Allocatable = corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110"),
			}
		}))
	}
	return l
}

// run places all that wait and has what is written come true.
func (l *lab) run() {
	for {
		l.drain()
		l.queue.due(time.Now())
		more := l.placeBatch(nil)
		for len(l.writes) > 0 {
			for _, w := range <-l.writes {
				switch {
				case w.victim != nil:
					l.gone++
					l.podChanged(w.victim.victim, nil)
				case w.node == "":
					l.podChanged(w.pod, w.pod)
				default:
					l.bound++
					p := *w.pod
					p.Spec.NodeName = w.node
					l.podChanged(w.pod, &p)
				}
			}
		}
		if !more && l.changes == 0 {
			return
		}
	}
}

func (l *lab) add(k int, name string, change ...func(*corev1.Pod)) {
	for i := range k {
		l.podChanged(nil, testPod(fmt.Sprintf("%s-%d", name, i), append([]func(*corev1.Pod){requests("100m", "500Mi")}, change...)...))
	}
}

func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func bench(b *testing.B, before func(*lab), k int, measured func(*lab)) {
	for b.Loop() {
		b.StopTimer()
		l := newLab(b)
		before(l)
		l.run()
		was := l.bound
		b.StartTimer()
		start, cpu := time.Now(), cpuTime()
		measured(l)
		l.run()
		if l.bound-was != k {
			b.Fatalf("%d of %d bound", l.bound-was, k)
		}
		b.ReportMetric(float64(k)/time.Since(start).Seconds(), "pods/s")
		b.ReportMetric(float64(k)/(cpuTime()-cpu).Seconds(), "pods/cpu-s") // where others use the machine too
	}
}

func BenchmarkPlain50000(b *testing.B) {
	bench(b, func(*lab) {}, 50000, func(l *lab) { l.add(50000, "p") })
}

// Every pod a class of its own, as those of StatefulSets are.
func BenchmarkDistinct2000(b *testing.B) {
	i := 0
	bench(b, func(*lab) {}, 2000, func(l *lab) {
		l.add(2000, "p", func(p *corev1.Pod) { i++; p.Labels = map[string]string{"pod": fmt.Sprint(i)} })
	})
}

func BenchmarkTenClassesInTurn50000(b *testing.B) {
	i := 0
	bench(b, func(*lab) {}, 50000, func(l *lab) {
		l.add(50000, "p", func(p *corev1.Pod) { i++; p.Labels = map[string]string{"app": fmt.Sprint(i % 10)} })
	})
}

func hardTerm(key string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "devops"}},
	}
}

func BenchmarkRequiredAntiAffinityWithNamespaceSelector4000(b *testing.B) {
	apart := func(p *corev1.Pod) {
		p.Namespace = "ns" + p.Name[len(p.Name)-1:]
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{hardTerm(corev1.LabelHostname)}}}
	}
	teams := func(l *lab) {
		for i := range 10 {
			l.space[fmt.Sprint("ns", i)] = labels.Set{"team": "devops"}
		}
		l.add(1000, "before", apart)
	}
	bench(b, teams, 4000, func(l *lab) { l.add(4000, "p", apart) })
}

func BenchmarkRequiredAffinity5000(b *testing.B) {
	beside := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelTopologyZone, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
		}}}}
	}
	bench(b, func(l *lab) { l.add(5000, "before", beside) }, 5000, func(l *lab) { l.add(5000, "p", beside) })
}

func BenchmarkPreferredAffinity5000(b *testing.B) {
	prefer := func(p *corev1.Pod) {
		t := hardTerm(corev1.LabelHostname)
		t.NamespaceSelector = nil
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: t}}}}
	}
	bench(b, func(l *lab) { l.add(5000, "before", prefer) }, 5000, func(l *lab) { l.add(5000, "p", prefer) })
}

func spread(key string, when corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 5, TopologyKey: key, WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
		})
	}
}

func BenchmarkSpreadOverZones5000(b *testing.B) {
	bench(b, func(l *lab) { l.add(5000, "before") }, 5000, func(l *lab) { l.add(5000, "p", spread(corev1.LabelTopologyZone, corev1.DoNotSchedule)) })
}

func BenchmarkSpreadOverHosts5000(b *testing.B) {
	bench(b, func(l *lab) { l.add(5000, "before") }, 5000, func(l *lab) { l.add(5000, "p", spread(corev1.LabelHostname, corev1.DoNotSchedule)) })
}

// As a Deployment's pods are spread by default.
func BenchmarkSpreadSoftly20000(b *testing.B) {
	soft := func(p *corev1.Pod) {
		spread(corev1.LabelHostname, corev1.ScheduleAnyway)(p)
		spread(corev1.LabelTopologyZone, corev1.ScheduleAnyway)(p)
	}
	bench(b, func(l *lab) {}, 20000, func(l *lab) { l.add(20000, "p", soft) })
}

// Every node is full of pods of low priority; each pod that comes takes the
// place of some.
func BenchmarkPreemption5000(b *testing.B) {
	low := func(l *lab) {
		i := 0
		l.add(20000, "low", requests("900m", "500Mi"), priority(1), func(p *corev1.Pod) {
			i++
			p.Status.StartTime = &metav1.Time{Time: epoch.Add(time.Duration(i) * time.Second)}
		})
	}
	bench(b, low, 5000, func(l *lab) { l.add(5000, "high", requests("3", "500Mi"), priority(10)) })
}

// Twenty pods a node, ten kinds of pods that take their places.
func BenchmarkPreemptionOfMany5000(b *testing.B) {
	low := func(l *lab) { l.add(100000, "low", requests("200m", "500Mi"), priority(1)) }
	i := 0
	bench(b, low, 5000, func(l *lab) {
		l.add(5000, "high", requests("1500m", "500Mi"), priority(10), func(p *corev1.Pod) { i++; p.Labels = map[string]string{"app": fmt.Sprint(i % 10)} })
	})
}
