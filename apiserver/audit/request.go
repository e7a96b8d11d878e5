package audit

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	internal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// The stages of a request.
const (
	RequestReceived  = auditv1.StageRequestReceived
	ResponseStarted  = auditv1.StageResponseStarted
	ResponseComplete = auditv1.StageResponseComplete
	Panic            = auditv1.StagePanic
)

// Sink takes events. The event must not be kept or changed after the call; it
// must not block for long.
type Sink interface {
	Write(e *auditv1.Event)
}

// Auditor judges requests by a policy and gives their events to sinks.
type Auditor struct {
	Policy *internal.Policy
	Sinks  []Sink
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Request is what is written down of one request. All methods of a nil Request,
// one that the policy leaves out, do nothing. It belongs to the request's
// goroutine.
type Request struct {
	a     *Auditor
	rule  rule
	event auditv1.Event
}

// maxUserAgent is where longer ones are cut.
const maxUserAgent = 1024

// Begin returns what is written down of a request; nil for nothing.
func (a *Auditor) Begin(r *http.Request, id string, received time.Time, attr authorizer.Attributes) *Request {
	if a == nil {
		return nil
	}
	found := find(a.Policy, attr)
	if found.level == internal.LevelNone {
		return nil
	}
	q := &Request{a: a, rule: found}
	e := &q.event
	e.Kind, e.APIVersion = "Event", "audit.k8s.io/v1"
	e.Level, e.AuditID = auditv1.Level(found.level), types.UID(id)
	e.RequestURI, e.Verb = r.URL.RequestURI(), attr.GetVerb()
	e.RequestReceivedTimestamp = metav1.NewMicroTime(received)
	if e.UserAgent = r.UserAgent(); len(e.UserAgent) > maxUserAgent {
		e.UserAgent = e.UserAgent[:maxUserAgent] + "...TRUNCATED"
	}
	for _, ip := range utilnet.SourceIPs(r) {
		e.SourceIPs = append(e.SourceIPs, ip.String())
	}
	if u := attr.GetUser(); u != nil {
		e.User = userInfo(u)
	}
	if attr.IsResourceRequest() {
		e.ObjectRef = &auditv1.ObjectReference{
			Resource: attr.GetResource(), Subresource: attr.GetSubresource(), Namespace: attr.GetNamespace(), Name: attr.GetName(),
			APIGroup: attr.GetAPIGroup(), APIVersion: attr.GetAPIVersion(),
		}
	}
	return q
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// Impersonated says as whom the user acts; constraint is the verb that allowed it
// when that was not for everything.
func (q *Request) Impersonated(u user.Info, constraint string) {
	if q != nil {
		as := userInfo(u)
		q.event.ImpersonatedUser = &as
		if constraint != "" {
			q.event.AuthenticationMetadata = &auditv1.AuthenticationMetadata{ImpersonationConstraint: constraint}
		}
	}
}

// patches begin the names of annotations that hold parts of the request's body.
const patches = "patch.webhook.admission.k8s.io/"

// Note adds an annotation; a key that is there stays as it is. What holds parts
// of the body is written down where the body is.
func (q *Request) Note(key, value string) {
	if q == nil || strings.HasPrefix(key, patches) && !q.WantsRequest() {
		return
	}
	if q.event.Annotations == nil {
		q.event.Annotations = map[string]string{}
	}
	if _, ok := q.event.Annotations[key]; !ok {
		q.event.Annotations[key] = value
	}
}

// Target completes what the path says of the object with what the body does.
func (q *Request) Target(o metav1.Object) {
	if q == nil || q.event.ObjectRef == nil {
		return
	}
	ref := q.event.ObjectRef
	for _, x := range []struct {
		to *string
		is string
	}{{&ref.Namespace, o.GetNamespace()}, {&ref.Name, o.GetName()}, {&ref.ResourceVersion, o.GetResourceVersion()}} {
		if *x.to == "" {
			*x.to = x.is
		}
	}
	if ref.UID == "" {
		ref.UID = o.GetUID()
	}
}

// WantsRequest reports whether the request's body is written down.
func (q *Request) WantsRequest() bool {
	return q != nil && (q.rule.level == internal.LevelRequest || q.rule.level == internal.LevelRequestResponse)
}

// WantsResponse reports whether the response's body is written down.
func (q *Request) WantsResponse() bool {
	return q != nil && q.rule.level == internal.LevelRequestResponse
}

// RequestBody takes the body, as JSON.
func (q *Request) RequestBody(body []byte) {
	if q.WantsRequest() {
		q.event.RequestObject = q.unknown(body)
	}
}

// Patch takes the body of a patch, which is of no kind.
func (q *Request) Patch(body []byte) {
	if !q.WantsRequest() {
		return
	}
	if !json.Valid(body) {
		// Apply patches may be YAML.
		quoted, err := json.Marshal(string(body))
		if err != nil {
			return
		}
		body = quoted
	}
	q.event.RequestObject = &runtime.Unknown{Raw: slices.Clone(body), ContentType: runtime.ContentTypeJSON}
}

// ResponseBody takes the response, as JSON.
func (q *Request) ResponseBody(body []byte) {
	if q.WantsResponse() {
		q.event.ResponseObject = q.unknown(body)
	}
}

func (q *Request) unknown(body []byte) *runtime.Unknown {
	if q.rule.omitManagedFields {
		body = withoutManagedFields(body)
	} else {
		body = slices.Clone(body)
	}
	return &runtime.Unknown{Raw: body, ContentType: runtime.ContentTypeJSON}
}

// withoutManagedFields drops them from an object, the items of a list, and the
// objects of a table's rows.
func withoutManagedFields(body []byte) []byte {
	var o map[string]any
	if err := json.Unmarshal(body, &o); err != nil {
		return slices.Clone(body)
	}
	drop := func(o map[string]any) {
		if m, ok := o["metadata"].(map[string]any); ok {
			delete(m, "managedFields")
		}
	}
	drop(o)
	items, _ := o["items"].([]any)
	for _, it := range items {
		if it, ok := it.(map[string]any); ok {
			drop(it)
		}
	}
	rows, _ := o["rows"].([]any)
	for _, row := range rows {
		if row, ok := row.(map[string]any); ok {
			if it, ok := row["object"].(map[string]any); ok {
				drop(it)
			}
		}
	}
	out, err := json.Marshal(o)
	if err != nil {
		return slices.Clone(body)
	}
	return out
}

// Stage writes the event of a stage. code is 0 before the response, status that
// of a response which is a Status, else nil.
func (q *Request) Stage(stage auditv1.Stage, code int, status *metav1.Status) {
	if q == nil || slices.Contains(q.rule.omit, internal.Stage(stage)) {
		return
	}
	now := time.Now
	if q.a.Now != nil {
		now = q.a.Now
	}
	e := q.event
	e.Stage, e.StageTimestamp = stage, metav1.NewMicroTime(now())
	if code != 0 {
		e.ResponseStatus = &metav1.Status{Code: int32(code)}
	}
	if status != nil {
		e.ResponseStatus = &metav1.Status{
			Status: status.Status, Message: status.Message, Reason: status.Reason, Details: status.Details, Code: int32(code),
		}
	}
	for _, s := range q.a.Sinks {
		s.Write(&e)
	}
}
