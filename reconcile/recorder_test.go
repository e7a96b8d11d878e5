package reconcile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/reconcile"
)

// events stops a recorder after f has spoken to it and returns what it wrote.
func events(t *testing.T, f func(client.Recorder)) []*corev1.Event {
	t.Helper()
	c, _ := world(t)
	r := reconcile.NewRecorder(c, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	f(r.For("test-controller", ""))
	cancel()
	<-done // what is queued is written first
	all, _, err := client.ListOf[*corev1.Event](t.Context(), c, "default", client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func somePod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", UID: "u", ResourceVersion: "7"}}
}

func TestEventLooksAsUpstreams(t *testing.T) {
	all := events(t, func(r client.Recorder) {
		r.EventForField(somePod(), "spec.containers{c}", "Normal", "Pulled", "image %q", "x")
	})
	if len(all) != 1 {
		t.Fatalf("%d events", len(all))
	}
	e := all[0]
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "web-1", UID: "u", ResourceVersion: "7", FieldPath: "spec.containers{c}"}
	if e.InvolvedObject != ref || e.Reason != "Pulled" || e.Message != `image "x"` || e.Type != "Normal" || e.Count != 1 ||
		e.Source.Component != "test-controller" || e.ReportingController != "test-controller" || e.FirstTimestamp.IsZero() || e.LastTimestamp.IsZero() {
		t.Fatalf("%+v", e)
	}
	name, stamp, _ := strings.Cut(e.Name, ".")
	if name != "web-1" || len(stamp) < 15 {
		t.Fatal(e.Name)
	}
}

func TestRepeatedEventsAreCountedUp(t *testing.T) {
	all := events(t, func(r client.Recorder) {
		for range 7 {
			r.Eventf(somePod(), "Warning", "BackOff", "again")
		}
	})
	if len(all) != 1 || all[0].Count != 7 {
		t.Fatalf("%+v", all)
	}
}

func TestSimilarEventsAreCombined(t *testing.T) {
	all := events(t, func(r client.Recorder) {
		for i := range 15 {
			r.Eventf(somePod(), "Warning", "Failed", "try %d", i)
		}
	})
	if len(all) != 10 {
		t.Fatalf("%d events, want nine and one for the rest", len(all))
	}
	combined := 0
	for _, e := range all {
		if strings.HasPrefix(e.Message, "(combined from similar events): ") {
			combined++
			if e.Count != 6 || e.Message != "(combined from similar events): try 14" {
				t.Fatalf("%+v", e)
			}
		}
	}
	if combined != 1 {
		t.Fatal(combined)
	}
}

func TestASourceThatSaysTooMuchIsNotHeard(t *testing.T) {
	all := events(t, func(r client.Recorder) {
		for i := range 100 {
			r.Eventf(somePod(), "Warning", fmt.Sprint("Reason", i), "x")
		}
	})
	if len(all) != 25 {
		t.Fatalf("%d events written, the burst is 25", len(all))
	}
}
