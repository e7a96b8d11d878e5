package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestEvents(t *testing.T) {
	event := func(name string) *corev1.Event {
		return &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: name, Labels: map[string]string{"testevent-set": "true"}},
			InvolvedObject: corev1.ObjectReference{Namespace: ns, Kind: "Pod", Name: "p"},
			Message:        "This is " + name, Reason: "Test", Type: corev1.EventTypeNormal, Count: 1,
		}
	}
	conform(t, "[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]", func(c *cluster) {
		events := c.CoreV1().Events(ns)
		must(events.Create(c.ctx, event("e"), metav1.CreateOptions{}))
		l := must(c.CoreV1().Events("").List(c.ctx, metav1.ListOptions{LabelSelector: "testevent-set=true"}))
		c.want(len(l.Items) == 1, "%d events", len(l.Items))
		must(events.Patch(c.ctx, "e", types.StrategicMergePatchType, []byte(`{"message":"patched"}`), metav1.PatchOptions{}))
		e := must(events.Get(c.ctx, "e", metav1.GetOptions{}))
		c.want(e.Message == "patched", "message %q", e.Message)
		e.Series = &corev1.EventSeries{Count: 100, LastObservedTime: metav1.MicroTime{Time: time.Unix(1505828956, 0)}}
		must(events.Update(c.ctx, e, metav1.UpdateOptions{}))
		e = must(events.Get(c.ctx, "e", metav1.GetOptions{}))
		c.want(e.Series != nil && e.Series.Count == 100 && e.Series.LastObservedTime.Unix() == 1505828956, "series %v", e.Series)
		c.ok(events.Delete(c.ctx, "e", metav1.DeleteOptions{}))
		_, err := events.Get(c.ctx, "e", metav1.GetOptions{})
		c.want(apierrors.IsNotFound(err), "%v", err)
	})
	conform(t, "[sig-instrumentation] Events should delete a collection of events [Conformance]", func(c *cluster) {
		events := c.CoreV1().Events(ns)
		for i := range 3 {
			must(events.Create(c.ctx, event(fmt.Sprint("e", i)), metav1.CreateOptions{}))
		}
		chosen := metav1.ListOptions{LabelSelector: "testevent-set=true"}
		c.want(len(must(events.List(c.ctx, chosen)).Items) == 3, "not all are listed")
		c.ok(events.DeleteCollection(c.ctx, metav1.DeleteOptions{}, chosen))
		c.want(len(must(events.List(c.ctx, chosen)).Items) == 0, "some are left")
	})
	newEvent := func(name string) *eventsv1.Event {
		return &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"testevent-set": "true"}},
			Regarding:  corev1.ObjectReference{Namespace: ns, Kind: "Pod", Name: "p"},
			EventTime:  metav1.MicroTime{Time: time.Unix(1505828956, 0)}, Note: "This is " + name, Action: "Do", Reason: "Test",
			Type: corev1.EventTypeNormal, ReportingController: "test-controller", ReportingInstance: "test-node",
		}
	}
	conform(t, "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed [Conformance]", func(c *cluster) {
		events := c.EventsV1().Events(ns)
		must(events.Create(c.ctx, newEvent("e"), metav1.CreateOptions{}))
		for _, where := range []string{ns, ""} {
			l := must(c.EventsV1().Events(where).List(c.ctx, metav1.ListOptions{FieldSelector: "reportingController=test-controller"}))
			c.want(len(l.Items) == 1, "%d events in %q", len(l.Items), where)
		}
		old := must(events.Get(c.ctx, "e", metav1.GetOptions{}))
		must(events.Patch(c.ctx, "e", types.StrategicMergePatchType, []byte(`{"series":{"count":2,"lastObservedTime":"2017-09-19T13:49:16.000000Z"}}`), metav1.PatchOptions{}))
		e := must(events.Get(c.ctx, "e", metav1.GetOptions{}))
		c.want(e.Series != nil && e.Series.Count == 2 && e.EventTime.Equal(&old.EventTime) && e.Note == old.Note, "%+v", e)
		e.Series = &eventsv1.EventSeries{Count: 100, LastObservedTime: metav1.MicroTime{Time: time.Unix(1505828956, 0)}}
		must(events.Update(c.ctx, e, metav1.UpdateOptions{}))
		e = must(events.Get(c.ctx, "e", metav1.GetOptions{}))
		c.want(e.Series.Count == 100, "series %v", e.Series)
		c.ok(events.Delete(c.ctx, "e", metav1.DeleteOptions{}))
		l := must(events.List(c.ctx, metav1.ListOptions{LabelSelector: "testevent-set=true"}))
		c.want(len(l.Items) == 0, "%d are left", len(l.Items))
	})
	conform(t, "[sig-instrumentation] Events API should delete a collection of events [Conformance]", func(c *cluster) {
		events := c.EventsV1().Events(ns)
		for i := range 3 {
			must(events.Create(c.ctx, newEvent(fmt.Sprint("e", i)), metav1.CreateOptions{}))
		}
		chosen := metav1.ListOptions{LabelSelector: "testevent-set=true"}
		c.want(len(must(events.List(c.ctx, chosen)).Items) == 3, "not all are listed")
		c.ok(events.DeleteCollection(c.ctx, metav1.DeleteOptions{}, chosen))
		c.want(len(must(events.List(c.ctx, chosen)).Items) == 0, "some are left")
	})
}
