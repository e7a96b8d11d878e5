package scheduler

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"sagong/scheduler/plugins"
)

// Metrics measure a scheduler under upstream's names. Pods of a class are placed
// by one plan: the time at a point of upstream's framework is that of a class, of
// a batch that it places or binds, or of a pod where a rule works for it alone. A
// nil Metrics measures nothing.
type Metrics struct {
	attempts    *prometheus.CounterVec
	took        *prometheus.HistogramVec
	sli         *prometheus.HistogramVec
	algorithm   prometheus.Histogram
	tries       prometheus.Histogram
	preemptions prometheus.Counter
	victims     prometheus.Histogram
	incoming    *prometheus.CounterVec
	points      *prometheus.HistogramVec

	pending [4]prometheus.Gauge // by pendingQueues
	// entered are those of incoming that were used, for the queue's goroutine.
	entered map[[2]string]prometheus.Counter
}

var pendingQueues = [4]string{"active", "backoff", "unschedulable", "gated"}

// NewMetrics makes the metrics of one scheduler in a registry; nil is none.
func NewMetrics(r prometheus.Registerer) *Metrics {
	to, double := promauto.With(r), prometheus.ExponentialBuckets
	m := &Metrics{
		attempts: to.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_schedule_attempts_total",
			Help: "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem."}, []string{"result", "profile"}),
		took: to.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_scheduling_attempt_duration_seconds", Buckets: double(0.001, 2, 15),
			Help: "Scheduling attempt latency in seconds (scheduling algorithm + binding)"}, []string{"result", "profile"}),
		sli: to.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_sli_duration_seconds", Buckets: double(0.01, 2, 20),
			Help: "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts."}, []string{"attempts"}),
		algorithm: to.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_scheduling_algorithm_duration_seconds", Buckets: double(0.001, 2, 15),
			Help: "Scheduling algorithm latency in seconds, of a batch of pods of a class"}),
		tries: to.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_attempts", Buckets: double(1, 2, 5),
			Help: "Number of attempts to successfully schedule a pod."}),
		preemptions: to.NewCounter(prometheus.CounterOpts{Name: "scheduler_preemption_attempts_total", Help: "Total preemption attempts in the cluster till now"}),
		victims: to.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_preemption_victims", Buckets: double(1, 2, 7),
			Help: "Number of selected preemption victims"}),
		incoming: to.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_queue_incoming_pods_total",
			Help: "Number of pods added to scheduling queues by event and queue type."}, []string{"queue", "event"}),
		points: to.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_framework_extension_point_duration_seconds", Buckets: double(0.0001, 2, 12),
			Help: "Latency for running all plugins of a specific extension point, for all pods of a class that are placed at once."}, []string{"extension_point", "status", "profile"}),
		entered: map[[2]string]prometheus.Counter{},
	}
	pending := to.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_pending_pods",
		Help: "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated."}, []string{"queue"})
	for i, name := range pendingQueues {
		m.pending[i] = pending.WithLabelValues(name)
	}
	return m
}

// Points of upstream's framework.
const (
	pointPreFilter  = "PreFilter"
	pointFilter     = "Filter"
	pointScore      = "Score"
	pointPostFilter = "PostFilter"
	pointPreBind    = "PreBind"
	pointBind       = "Bind"
)

// point is told of the work at one, and whether it came to something.
func (m *Metrics) point(name, profile string, ok bool, took time.Duration) {
	if m == nil {
		return
	}
	status := "Success"
	if !ok {
		status = "Unschedulable"
		if name == pointBind || name == pointPreBind {
			status = "Error"
		}
	}
	m.points.WithLabelValues(name, status, profile).Observe(took.Seconds())
}

// decided is told how long it took to find nodes for a batch of pods.
func (m *Metrics) decided(took time.Duration) {
	if m != nil {
		m.algorithm.Observe(took.Seconds())
	}
}

// attempt is told how one pod's attempt ended.
func (m *Metrics) attempt(profile, result string, took time.Duration) {
	if m == nil {
		return
	}
	m.attempts.WithLabelValues(result, profile).Inc()
	m.took.WithLabelValues(result, profile).Observe(took.Seconds())
}

// scheduled is told of a pod that was bound, the attempts that took and the time
// since it came.
func (m *Metrics) scheduled(attempts int, waited time.Duration) {
	if m == nil {
		return
	}
	m.tries.Observe(float64(attempts))
	// Upstream's label counts to fifteen.
	label := "15+"
	if attempts < 15 {
		label = strconv.Itoa(attempts)
	}
	m.sli.WithLabelValues(label).Observe(waited.Seconds())
}

func (m *Metrics) preempting() {
	if m != nil {
		m.preemptions.Inc()
	}
}

func (m *Metrics) chose(victims int) {
	if m != nil {
		m.victims.Observe(float64(victims))
	}
}

// Upstream's names of what makes a pod enter a queue.
const (
	podAdd         = "PodAdd"
	podUpdate      = "PodUpdate"
	attemptFailure = "ScheduleAttemptFailure"
	backoffOver    = "BackoffComplete"
	patienceOver   = "UnschedulableTimeout"
)

// eventOf is upstream's name of a change that wakes pods.
func eventOf(c plugins.Change) string {
	switch {
	case c&(plugins.NodeChanged|plugins.FeaturesDeclared) != 0:
		return "NodeUpdate"
	case c&plugins.PodGone != 0:
		return "AssignedPodDelete"
	case c&plugins.PodPlaced != 0:
		return "AssignedPodAdd"
	}
	return podUpdate
}

// enters counts a pod that enters a queue.
func (m *Metrics) enters(place whereabouts, event string) {
	if m == nil {
		return
	}
	queue := pendingQueues[0]
	switch place {
	case unschedulable:
		queue = pendingQueues[2]
	case backingOff, failing:
		queue = pendingQueues[1]
	}
	k := [2]string{queue, event}
	c := m.entered[k]
	if c == nil {
		c = m.incoming.WithLabelValues(queue, event)
		m.entered[k] = c
	}
	c.Inc()
}

// show makes the lengths of the queues known.
func (m *Metrics) show(q *queue, gated int) {
	if m == nil {
		return
	}
	for i, n := range [4]int{q.active.Len(), q.parked[backingOff].Len() + q.parked[failing].Len(), q.parked[unschedulable].Len(), gated} {
		m.pending[i].Set(float64(n))
	}
}
