package reconcile

import "time"

// Metrics is told what the queues do, for the metrics that upstream calls
// workqueue_depth, workqueue_adds_total, workqueue_queue_duration_seconds,
// workqueue_work_duration_seconds and workqueue_retries_total. name is the
// controller's. Calls are made while a queue is locked: they must be quick.
type Metrics interface {
	Depth(name string, n int)
	Added(name string)
	Waited(name string, d time.Duration)
	Worked(name string, d time.Duration)
	Retried(name string)
}

// NoMetrics ignores everything.
type NoMetrics struct{}

// Depth does nothing.
func (NoMetrics) Depth(string, int) {}

// Added does nothing.
func (NoMetrics) Added(string) {}

// Waited does nothing.
func (NoMetrics) Waited(string, time.Duration) {}

// Worked does nothing.
func (NoMetrics) Worked(string, time.Duration) {}

// Retried does nothing.
func (NoMetrics) Retried(string) {}
