package apiserver

import (
	"net"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Stage is a point in a request's life at which audit is told of it.
type Stage string

// The stages, as upstream names them.
const (
	StageRequestReceived  Stage = "RequestReceived"
	StageResponseStarted  Stage = "ResponseStarted"
	StageResponseComplete Stage = "ResponseComplete"
)

// AuditEvent is what audit learns of a request at level Metadata.
type AuditEvent struct {
	ID           string
	Stage        Stage
	Info         *Info
	RequestURI   string
	User         user.Info
	Impersonated user.Info // nil when nobody is
	SourceIPs    []string
	UserAgent    string
	Received, At time.Time
	Code         int            // 0 before the response
	Status       *metav1.Status // of an error
	// UID and ResourceVersion are those of the object written, when known.
	UID             types.UID
	ResourceVersion string
	Annotations     map[string]string
}

// Audit is told of requests. It must be quick and must not keep the event.
type Audit interface {
	Audit(*AuditEvent)
}

// Metrics are told how a request ended.
type Metrics interface {
	Request(info *Info, code int, took time.Duration, bytes int64)
	// Watching counts the watches of a resource up and down.
	Watching(info *Info, delta int)
}

type auditedObject struct {
	uid types.UID
	rv  string
}

func (q *request) note(key, value string) {
	if q.s.Audit == nil {
		return
	}
	if q.notes == nil {
		q.notes = map[string]string{}
	}
	q.notes[key] = value
}

func (q *request) audit(stage Stage) {
	if q.s.Audit == nil {
		return
	}
	ev := &AuditEvent{
		ID: q.id, Stage: stage, Info: &q.info, RequestURI: q.r.URL.RequestURI(), User: q.user,
		SourceIPs: sourceIPs(q.r), UserAgent: q.r.UserAgent(), Received: q.start, At: time.Now(),
		UID: q.object.uid, ResourceVersion: q.object.rv, Annotations: q.notes,
	}
	if q.asked != nil {
		ev.User, ev.Impersonated = q.asked, q.user
	}
	if stage != StageRequestReceived {
		ev.Code, ev.Status = q.w.code(), q.errored
	}
	q.s.Audit.Audit(ev)
}

func sourceIPs(r *http.Request) []string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return nil
	}
	return []string{host}
}
