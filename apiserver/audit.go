package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/audit"
	"sagong/apiserver/resource"
	"sagong/object"
)

// End is how a request ended.
type End struct {
	Code int
	// Took is the time since it came, Elsewhere what of it was spent in a queue or
	// waiting for admission webhooks.
	Took, Elsewhere time.Duration
	Bytes           int64 // of the answer's body
	// Terminated says that the server gave it up, to protect itself.
	Terminated bool
}

// Metrics are told how requests go.
type Metrics interface {
	Request(info *Info, r *http.Request, end End)
	// Watching counts the watches of a resource up and down.
	Watching(info *Info, r *http.Request, delta int)
	// Checked is told of each check of health; path is "livez", "readyz" or
	// "healthz".
	Checked(path, check string, ok bool)
}

// note adds an annotation to the request's audit events.
func (q *request) note(key, value string) { q.audited.Note(key, value) }

// beginAudit finds out what is written down of the request.
func (q *request) beginAudit() {
	if q.s.Audit != nil {
		q.audited = q.s.Audit.Begin(q.r, q.id, q.start, q.attributes())
	}
}

// auditUnauthenticated writes down a request whose caller is not known, as
// upstream does: one event, and no other.
func (q *request) auditUnauthenticated(failure error) {
	q.beginAudit()
	s := statusOf(failure)
	q.audited.Stage(audit.ResponseStarted, int(s.Code), &metav1.Status{Message: credentialsTried(q.r)})
	q.audited = nil
}

func credentialsTried(r *http.Request) string {
	var tried []string
	if _, _, ok := r.BasicAuth(); ok {
		tried = append(tried, "basic")
	}
	if scheme, _, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " "); ok && strings.EqualFold(scheme, "bearer") {
		tried = append(tried, "bearer")
	}
	if r.URL.Query().Get("access_token") != "" {
		tried = append(tried, "access_token")
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		tried = append(tried, "x509")
	}
	if len(tried) == 0 {
		return "Authentication failed, no credentials provided"
	}
	return "Authentication failed, attempted: " + strings.Join(tried, ", ")
}

// auditStart has the beginning of a long answer written down.
func (q *request) auditStart() {
	if q.audited != nil {
		q.w.begun = func(code int) { q.audited.Stage(audit.ResponseStarted, code, q.errored) }
	}
}

// auditEnd writes down how the request ended; panicked is nil unless it did so
// in a panic.
func (q *request) auditEnd(panicked any) {
	if panicked != nil {
		q.audited.Stage(audit.Panic, http.StatusInternalServerError, &metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: fmt.Sprintf("APIServer panic'd: %v", panicked),
		})
		return
	}
	if q.audited != nil && !q.w.wrote {
		q.errored = &metav1.Status{Status: metav1.StatusSuccess, Message: "Connection closed early"}
	}
	q.audited.Stage(audit.ResponseComplete, q.w.code(), q.errored)
}

// auditRequest writes down the body of a request, which was read from data into o.
func (q *request) auditRequest(o runtime.Object, gvk schema.GroupVersionKind, data []byte, f object.Format) {
	if q.audited == nil {
		return
	}
	if m, ok := o.(metav1.Object); ok {
		q.audited.Target(m)
	}
	if !q.audited.WantsRequest() {
		return
	}
	if f != object.JSON {
		o = o.DeepCopyObject()
		o.GetObjectKind().SetGroupVersionKind(gvk)
		var err error
		if data, err = json.Marshal(o); err != nil {
			return
		}
	}
	q.audited.RequestBody(data)
}

// auditItem and auditList write down answers that are not sent as JSON.
func (q *request) auditItem(t resource.Target, it resource.Item) {
	if !q.audited.WantsResponse() {
		return
	}
	if bare, err := it.JSON(t.WireVersion()); err == nil {
		q.audited.ResponseBody(t.WireVersion().WholeJSON(nil, bare))
	}
}

func (q *request) auditList(t resource.Target, l resource.List) {
	if !q.audited.WantsResponse() {
		return
	}
	v := t.WireVersion()
	parts := make([][]byte, len(l.Items))
	for i, it := range l.Items {
		b, err := it.JSON(v)
		if err != nil {
			return
		}
		parts[i] = b
	}
	q.audited.ResponseBody(jsonList(v.ListKind, v.GroupVersion().String(), metaOf(t, l), parts))
}

func (q *request) auditOther(o runtime.Object) {
	if !q.audited.WantsResponse() {
		return
	}
	if b, err := json.Marshal(o); err == nil {
		q.audited.ResponseBody(b)
	}
}
