package scheduler

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

func TestMetrics(t *testing.T) {
	objs := []object.Object{&corev1.Namespace{ObjectMeta: node("default").ObjectMeta}, node("n1")}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		objs = append(objs, testPod(name, requests("1", "1Gi")))
	}
	objs = append(objs, testPod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }))
	c := fake.New(object.NewScheme(kinds.All()...), objs...)
	defer c.Close()
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	s, err := New(Config{Client: c, Hub: hub, Recorder: func(string) client.Recorder { return &told{} }, Log: slog.New(slog.DiscardHandler), Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	wg.Go(func() { _ = s.Run(ctx) })
	until(t, reconcile.ViewOf[*corev1.Pod](hub), "four bound, one refused", func(all []*corev1.Pod) bool {
		return count(all, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }) == 4 &&
			count(all, func(p *corev1.Pod) bool {
				x := conditionOf(p, corev1.PodScheduled)
				return x != nil && x.Reason == "Unschedulable"
			}) == 1
	})
	cancel()
	wg.Wait() // what is under way is finished and counted
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	text := answer.Body.String()
	for _, line := range []string{
		`scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"} 4`,
		`scheduler_scheduling_attempt_duration_seconds_count{profile="default-scheduler",result="scheduled"} 4`,
		`scheduler_pod_scheduling_attempts_count 4`,
		`scheduler_queue_incoming_pods_total{event="PodAdd",queue="active"} 5`,
		`scheduler_pending_pods{queue="gated"} 1`,
		`scheduler_pending_pods{queue="active"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	for _, begin := range []string{
		`scheduler_schedule_attempts_total{profile="default-scheduler",result="unschedulable"} `, `scheduler_preemption_attempts_total `,
		`scheduler_queue_incoming_pods_total{event="ScheduleAttemptFailure",queue="unschedulable"} `, `scheduler_pod_scheduling_sli_duration_seconds_count{attempts="1"} `,
		`scheduler_framework_extension_point_duration_seconds_count{extension_point="PreFilter",profile="default-scheduler",status="Success"} `,
		`scheduler_framework_extension_point_duration_seconds_count{extension_point="Filter",profile="default-scheduler",status="Success"} `,
		`scheduler_framework_extension_point_duration_seconds_count{extension_point="Score",profile="default-scheduler",status="`,
		`scheduler_framework_extension_point_duration_seconds_count{extension_point="Bind",profile="default-scheduler",status="Success"} `,
		`scheduler_framework_extension_point_duration_seconds_count{extension_point="PostFilter",profile="default-scheduler",status="Unschedulable"} `,
	} {
		if !strings.Contains(text, "\n"+begin) || strings.Contains(text, "\n"+begin+"0\n") {
			t.Errorf("none: %s", begin)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
