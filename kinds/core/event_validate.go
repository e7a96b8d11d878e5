package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const (
	eventFieldLimit   = 128
	eventMessageLimit = 1024
	elsewhere         = "does not match event.namespace"
)

// validateEvent checks an event. Only those which give the time in the newer
// form promise the newer fields.
func validateEvent(e *corev1.Event) (errs field.ErrorList) {
	p := field.NewPath("involvedObject", "namespace")
	about := e.InvolvedObject.Namespace
	if e.EventTime.IsZero() {
		if about != "" && about != e.Namespace || about == "" && e.Namespace != "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
			errs = append(errs, field.Invalid(p, about, elsewhere))
		}
		return errs
	}
	if about == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem || about != "" && about != e.Namespace {
		errs = append(errs, field.Invalid(p, about, elsewhere))
	}
	errs = append(errs, check.RequiredName(field.NewPath("reportingController"), e.ReportingController, utilvalidation.IsQualifiedName)...)
	for _, f := range []struct {
		name, value string
		most        int
		required    bool
	}{
		{"reportingInstance", e.ReportingInstance, eventFieldLimit, true}, {"action", e.Action, eventFieldLimit, true},
		{"reason", e.Reason, eventFieldLimit, true}, {"message", e.Message, eventMessageLimit, false},
	} {
		if f.required && f.value == "" {
			errs = append(errs, field.Required(field.NewPath(f.name), ""))
		}
		if len(f.value) > f.most {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", fmt.Sprintf("can have at most %v characters", f.most)))
		}
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	if e.Series != nil && e.Series.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series", "count"), "", "should be at least 2"))
	}
	return errs
}
