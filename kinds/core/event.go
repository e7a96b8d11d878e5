package core

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/field"
	"sagong/object"
)

// Event defines core/v1 Event, served as events.k8s.io/v1 Event too.
func Event() *object.Definition {
	return object.Kind[*corev1.Event]{
		Version: "v1", Kind: "Event", Resource: "events", ShortNames: []string{"ev"}, Namespaced: true,
		AllowCreateOnUpdate: true,
		New:                 func() *corev1.Event { return &corev1.Event{} },
		NewList:             func() runtime.Object { return &corev1.EventList{} },
		Served: []object.ServedVersion{{
			Group: "events.k8s.io", Version: "v1",
			New:     func() runtime.Object { return &eventsv1.Event{} },
			NewList: func() runtime.Object { return &eventsv1.EventList{} },
			To:      func(o object.Object) (runtime.Object, error) { return eventToV1(o.(*corev1.Event)), nil },
			From:    func(o runtime.Object) (object.Object, error) { return eventFromV1(o.(*eventsv1.Event)), nil },
			FieldNames: []string{
				"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid",
				"regarding.apiVersion", "regarding.resourceVersion", "regarding.fieldPath",
				"reason", "reportingController", "source", "type",
			},
			Validate: func(o object.Object) field.ErrorList { return validateNewEvent(o.(*corev1.Event)) },
			ValidateUpdate: func(n, o object.Object) field.ErrorList {
				return validateNewEventUpdate(n.(*corev1.Event), o.(*corev1.Event))
			},
		}},
		Fields: eventFields,
		FieldNames: []string{
			"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
			"involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
			"reason", "reportingComponent", "source", "type",
		},
		Columns:        eventColumns(),
		TTL:            func(*corev1.Event) time.Duration { return time.Hour },
		Lazy:           true,
		NameRule:       path.ValidatePathSegmentName,
		Validate:       validateEvent,
		ValidateUpdate: func(e, _ *corev1.Event) field.ErrorList { return validateEvent(e) },
	}.Definition()
}

// eventFields has the fields under the names of both served versions.
func eventFields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	o := &e.InvolvedObject
	return fields.Set{
		"involvedObject.kind": o.Kind, "regarding.kind": o.Kind,
		"involvedObject.namespace": o.Namespace, "regarding.namespace": o.Namespace,
		"involvedObject.name": o.Name, "regarding.name": o.Name,
		"involvedObject.uid": string(o.UID), "regarding.uid": string(o.UID),
		"involvedObject.apiVersion": o.APIVersion, "regarding.apiVersion": o.APIVersion,
		"involvedObject.resourceVersion": o.ResourceVersion, "regarding.resourceVersion": o.ResourceVersion,
		"involvedObject.fieldPath": o.FieldPath, "regarding.fieldPath": o.FieldPath,
		"reason": e.Reason, "source": source, "type": e.Type,
		"reportingComponent": e.ReportingController, "reportingController": e.ReportingController,
	}
}

func eventColumns() []object.TypedColumn[*corev1.Event] {
	doc, reference := corev1.Event{}.SwaggerDoc(), corev1.ObjectReference{}.SwaggerDoc()
	name := object.NameColumn[*corev1.Event]()
	return []object.TypedColumn[*corev1.Event]{
		object.TimeColumn("Last Seen", doc["lastTimestamp"], func(e *corev1.Event, now time.Time) string {
			if e.Series != nil {
				return object.Age(metav1.Time(e.Series.LastObservedTime), now)
			}
			if e.LastTimestamp.IsZero() {
				return eventFirstSeen(e, now)
			}
			return object.Age(e.LastTimestamp, now)
		}),
		object.StringColumn("Type", doc["type"], func(e *corev1.Event) string { return e.Type }),
		object.StringColumn("Reason", doc["reason"], func(e *corev1.Event) string { return e.Reason }),
		object.StringColumn("Object", doc["involvedObject"], func(e *corev1.Event) string {
			if e.InvolvedObject.Name == "" {
				return strings.ToLower(e.InvolvedObject.Kind)
			}
			return strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
		}),
		object.StringColumn("Subobject", reference["fieldPath"], func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }).Wide(),
		object.StringColumn("Source", doc["source"], func(e *corev1.Event) string {
			component, instance := e.Source.Component, e.Source.Host
			if component == "" {
				component = e.ReportingController
			}
			if instance == "" {
				instance = e.ReportingInstance
			}
			if instance == "" {
				return component
			}
			return component + ", " + instance
		}).Wide(),
		object.StringColumn("Message", doc["message"], func(e *corev1.Event) string { return strings.TrimSpace(e.Message) }),
		object.TimeColumn("First Seen", doc["firstTimestamp"], eventFirstSeen).Wide(),
		object.IntColumn("Count", doc["count"], func(e *corev1.Event) int64 {
			switch {
			case e.Series != nil:
				return int64(e.Series.Count)
			case e.Count == 0:
				return 1
			}
			return int64(e.Count)
		}).Text().Wide(),
		name.Wide(),
	}
}

func eventFirstSeen(e *corev1.Event, now time.Time) string {
	if e.FirstTimestamp.IsZero() {
		return object.Age(metav1.Time(e.EventTime), now)
	}
	return object.Age(e.FirstTimestamp, now)
}

func eventToV1(e *corev1.Event) *eventsv1.Event {
	e = e.DeepCopy()
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, Regarding: e.InvolvedObject, Related: e.Related,
		Note: e.Message, Type: e.Type, DeprecatedSource: e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
	}
	out.SetGroupVersionKind(eventsv1.SchemeGroupVersion.WithKind("Event"))
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func eventFromV1(e *eventsv1.Event) *corev1.Event {
	e = e.DeepCopy()
	out := &corev1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime,
		ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Action: e.Action, Reason: e.Reason, InvolvedObject: e.Regarding, Related: e.Related,
		Message: e.Note, Type: e.Type, Source: e.DeprecatedSource,
		FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
	}
	out.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Event"))
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}
