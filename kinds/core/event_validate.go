package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const (
	eventFieldLimit   = 128
	eventMessageLimit = 1024
	unset             = "needs to be unset"
)

// validateEvent checks an event that comes through the older group, for which the
// rules never became stricter. Only those which give the time in the newer form
// promise the newer fields.
func validateEvent(e *corev1.Event) (errs field.ErrorList) {
	about, in := e.InvolvedObject.Namespace, e.Namespace
	older := e.EventTime.IsZero()
	if older && about != "" && about != in || about == "" && in != "" && in != metav1.NamespaceDefault && (older || in != metav1.NamespaceSystem) {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace"))
	}
	if older {
		return errs
	}
	for _, f := range []struct {
		name, value string
		most        int
		required    bool
	}{
		{"reportingController", e.ReportingController, 0, true}, {"reportingInstance", e.ReportingInstance, eventFieldLimit, true},
		{"action", e.Action, eventFieldLimit, true}, {"reason", e.Reason, eventFieldLimit, true}, {"message", e.Message, eventMessageLimit, false},
	} {
		p := field.NewPath(f.name)
		if f.required && f.value == "" {
			errs = append(errs, field.Required(p, ""))
		}
		if f.name == "reportingController" {
			errs = append(errs, check.Rule(p, f.value, utilvalidation.IsQualifiedName)...)
		} else if len(f.value) > f.most {
			errs = append(errs, field.Invalid(p, "", fmt.Sprintf("can have at most %v characters", f.most)))
		}
	}
	return errs
}

// validateNewEvent checks an event that comes through events.k8s.io/v1: what was
// kept of the older form has no place there.
func validateNewEvent(e *corev1.Event) field.ErrorList {
	errs := validateEvent(e)
	if e.Name != "" && len(path.ValidatePathSegmentName(e.Name, false)) == 0 { // else it was said
		errs = append(errs, check.Name(field.NewPath("metadata", "name"), e.Name, validation.NameIsDNSSubdomain)...)
	}
	errs = append(errs, validateEventSeries(e)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()}, {"lastTimestamp", !e.LastTimestamp.IsZero()},
		{"count", e.Count != 0}, {"source", e.Source != corev1.EventSource{}},
	} {
		if f.set {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", unset))
		}
	}
	return errs
}

func validateEventSeries(e *corev1.Event) (errs field.ErrorList) {
	if e.Series == nil {
		return nil
	}
	if e.Series.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if e.Series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return errs
}

// validateNewEventUpdate lets nothing but the series of an event change.
func validateNewEventUpdate(e, old *corev1.Event) field.ErrorList {
	errs := validateEvent(e)
	if !equality.Semantic.DeepEqual(e.Series, old.Series) {
		errs = append(errs, validateEventSeries(e)...)
	}
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"involvedObject", e.InvolvedObject, old.InvolvedObject}, {"reason", e.Reason, old.Reason},
		{"message", e.Message, old.Message}, {"source", e.Source, old.Source},
		{"firstTimestamp", e.FirstTimestamp, old.FirstTimestamp}, {"lastTimestamp", e.LastTimestamp, old.LastTimestamp},
		{"count", e.Count, old.Count}, {"reason", e.Reason, old.Reason}, {"type", e.Type, old.Type},
		{"eventTime", e.EventTime, old.EventTime}, {"action", e.Action, old.Action}, {"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController}, {"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		errs = append(errs, check.Immutable(field.NewPath(f.name), f.now, f.was)...)
	}
	return errs
}
