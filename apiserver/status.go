package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"sagong/object"
)

// statusError is an API error without a constructor in apimachinery.
type statusError struct{ s metav1.Status }

func (e *statusError) Error() string         { return e.s.Message }
func (e *statusError) Status() metav1.Status { return e.s }

// statusOf turns any error into the Status that a client gets.
func statusOf(err error) metav1.Status {
	var s metav1.Status
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		s = api.Status()
	case errors.Is(err, context.DeadlineExceeded):
		s = apierrors.NewTimeoutError("request did not complete within the allotted time", 0).ErrStatus
	case errors.Is(err, context.Canceled):
		s = apierrors.NewTimeoutError("request was cancelled by the client", 0).ErrStatus
	default:
		s = metav1.Status{Message: err.Error(), Code: http.StatusInternalServerError}
	}
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if s.Status == "" {
		s.Status = metav1.StatusFailure
	}
	if s.Code == 0 {
		s.Code = http.StatusInternalServerError
		if s.Status == metav1.StatusSuccess {
			s.Code = http.StatusOK
		}
	}
	return s
}

// fail answers with an error.
func (q *request) fail(err error) {
	s := statusOf(err)
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		q.w.Header().Set("Retry-After", strconv.Itoa(int(s.Details.RetryAfterSeconds)))
	}
	if s.Code >= 500 && s.Code != http.StatusServiceUnavailable && s.Code != http.StatusGatewayTimeout && q.r.Context().Err() == nil {
		q.s.log.Error("request failed", "method", q.r.Method, "path", q.r.URL.Path, "id", q.id, "err", err)
	}
	q.terminated = q.terminated || s.Code == http.StatusGatewayTimeout && errors.Is(q.r.Context().Err(), context.DeadlineExceeded)
	a, negotiated := negotiate(q.r, true, false, false)
	if negotiated != nil {
		a = accepted{pretty: true}
	}
	q.errored = &s
	q.other(a, int(s.Code), &s)
}

// status is what a built-in object that is not of a stored kind is sent as:
// Status, Scale, a review.
func (q *request) other(a accepted, code int, o runtime.Object) {
	switch a.format {
	case object.CBOR:
		q.auditOther(o)
		if b, err := object.AppendCBOR(nil, o); err == nil {
			q.write(a, code, b)
			return
		}
		a.format = object.JSON
	case object.Protobuf:
		q.auditOther(o)
		if b, err := object.Marshal(o); err == nil {
			gvk := o.GetObjectKind().GroupVersionKind()
			apiVersion := gvk.GroupVersion().String()
			body := object.AppendEnvelope(make([]byte, 0, len(b)+128), apiVersion, gvk.Kind, len(b))
			q.write(a, code, append(body, b...))
			return
		}
		a.format = object.JSON
	}
	b, err := json.Marshal(o)
	if err != nil {
		q.s.log.Error("cannot encode a response", "type", err)
		http.Error(q.w, "cannot encode the response", http.StatusInternalServerError)
		return
	}
	q.writeJSON(a, code, append(b, '\n'))
}

// writeJSON sends JSON as it is, indented, or as YAML.
func (q *request) writeJSON(a accepted, code int, b []byte) {
	q.audited.ResponseBody(b)
	switch {
	case a.format == object.YAML:
		if y, err := yaml.JSONToYAML(b); err == nil {
			b = y
		}
	case a.pretty:
		b = indent(b)
	}
	q.write(a, code, b)
}
