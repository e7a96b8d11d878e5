package reconcile_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

func TestQueueMetrics(t *testing.T) {
	c, h := world(t, configMap("m"))
	v := reconcile.ViewOf[*corev1.ConfigMap](h)
	reg := prometheus.NewRegistry()
	e := reconcile.NewEngine(c, quiet, reconcile.NewPrometheusMetrics(reg))
	done := make(chan struct{})
	tries := 0
	if err := e.Add(&testController{name: "q", inputs: []reconcile.Input{reconcile.Self(v)}, f: func(context.Context, client.Client, object.Key) (reconcile.Result, error) {
		if tries++; tries == 1 {
			return reconcile.Result{}, errors.New("no")
		}
		close(done)
		return reconcile.Result{}, nil
	}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx) })
	wait(t, done)
	cancel()
	wg.Wait()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, x := range f.Metric {
			switch {
			case x.Counter != nil:
				got[f.GetName()] = x.Counter.GetValue()
			case x.Gauge != nil:
				got[f.GetName()] = x.Gauge.GetValue()
			case x.Histogram != nil:
				got[f.GetName()] = float64(x.Histogram.GetSampleCount())
			}
		}
	}
	for name, want := range map[string]float64{
		"workqueue_depth": 0, "workqueue_adds_total": 2, "workqueue_retries_total": 1,
		"workqueue_queue_duration_seconds": 2, "workqueue_work_duration_seconds": 2,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}
