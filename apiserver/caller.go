package apiserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/fairness"
	"sagong/apiserver/resource"
)

func (q *request) authenticate() error {
	if q.s.Authenticator == nil {
		q.user = &user.DefaultInfo{Name: user.Anonymous, Groups: []string{user.AllUnauthenticated}}
		return nil
	}
	resp, ok, err := q.s.Authenticator.AuthenticateRequest(q.r)
	if err != nil || !ok {
		if err != nil {
			q.s.log.Debug("cannot authenticate a request", "path", q.info.Path, "err", err)
		}
		q.lastOfConnection()
		return apierrors.NewUnauthorized("Unauthorized")
	}
	q.user = resp.User
	if q.user.GetName() == user.Anonymous || slices.Contains(q.user.GetGroups(), user.AllUnauthenticated) {
		q.lastOfConnection()
	}
	// The credential is used up: what lies behind must not see or pass it on.
	q.r.Header.Del("Authorization")
	return nil
}

// lastOfConnection has an HTTP/2 connection end with this request: who is not known
// gets no more of it than of one of HTTP/1 without keep-alive (CVE-2023-44487).
func (q *request) lastOfConnection() {
	if q.r.ProtoMajor == 2 {
		q.w.Header().Set("Connection", "close")
	}
}

// attributes are what the path says the user wants to do.
func (q *request) attributes() authorizer.AttributesRecord {
	in := &q.info
	a := authorizer.AttributesRecord{User: q.user, Verb: in.Verb, Path: in.Path, ResourceRequest: in.Resource}
	if in.Resource {
		a.Namespace, a.APIGroup, a.APIVersion = in.Namespace, in.GV.Group, in.GV.Version
		a.Resource, a.Subresource, a.Name = in.Plural, in.Subresource, in.Name
	}
	return a
}

// authorize asks whether the user may do what the request is for.
func (q *request) authorize() error {
	in := &q.info
	a := q.attributes()
	if in.Resource {
		switch in.Verb {
		case "list", "watch", "deletecollection":
			v := q.r.URL.Query()
			if s := v.Get("fieldSelector"); s != "" {
				if f, err := fields.ParseSelector(s); err != nil {
					a.FieldSelectorParsingErr = err
				} else {
					a.FieldSelectorRequirements = f.Requirements()
				}
			}
			if s := v.Get("labelSelector"); s != "" {
				if l, err := labels.Parse(s); err != nil {
					a.LabelSelectorParsingErr = err
				} else {
					a.LabelSelectorRequirements, _ = l.Requirements()
				}
			}
		}
	}
	reason, err := q.allowed(q.r.Context(), a)
	switch {
	case q.s.Authorizer == nil:
	case err != nil && !apierrors.IsForbidden(err):
		q.note("authorization.k8s.io/reason", "internal error")
	case err == nil:
		q.note("authorization.k8s.io/decision", "allow")
		q.note("authorization.k8s.io/reason", reason)
	default:
		q.note("authorization.k8s.io/decision", "forbid")
		q.note("authorization.k8s.io/reason", reason)
	}
	return err
}

// allowed returns why something is allowed, or the error that says it is not.
func (q *request) allowed(ctx context.Context, a authorizer.AttributesRecord) (reason string, _ error) {
	if q.s.Authorizer == nil {
		return "", nil
	}
	decision, reason, err := q.s.Authorizer.Authorize(ctx, a)
	if decision == authorizer.DecisionAllow {
		return reason, nil
	}
	if err != nil {
		return reason, apierrors.NewInternalError(err)
	}
	return reason, forbidden(a, reason)
}

// caller is the request's user as the engine wants it.
func (q *request) caller() resource.Caller {
	return resource.Caller{User: q.user, Agent: q.r.UserAgent(), Warn: q.warn, Annotate: q.note}
}

// warn adds a Warning header. It must come before the body.
func (q *request) warn(text string) {
	// The faults of YAML come as one error: each is a warning.
	const faults = "yaml: unmarshal errors:\n"
	if _, lines, ok := strings.Cut(text, faults); ok {
		for line := range strings.SplitSeq(lines, "\n") {
			q.warn(strings.TrimSpace(line))
		}
		return
	}
	q.warned.add(q.w.Header(), text)
}

// enter waits until the request may go on. Health is asked for when a server has
// too much to do, and always answers.
func (q *request) enter() error {
	if q.s.Fairness == nil || isHealth(q.info.Path) {
		return nil
	}
	in := &q.info
	r := &fairness.Request{User: q.user, Verb: in.Verb, Path: in.Path, Resource: in.Resource, Group: in.GV.Group, Plural: in.Plural, Namespace: in.Namespace}
	if in.Subresource != "" {
		r.Plural += "/" + in.Subresource
	}
	begun := time.Now()
	ticket, err := q.s.Fairness.Enter(q.r.Context(), r)
	q.turn.Wait(time.Since(begun))
	var rejected *fairness.Rejected
	if errors.As(err, &rejected) {
		ticket = &fairness.Ticket{Schema: rejected.Schema, Level: rejected.Level}
	}
	if ticket != nil && ticket.Schema != "" {
		h := q.w.Header()
		h.Set(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID, string(ticket.Schema))
		h.Set(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID, string(ticket.Level))
	}
	if err == nil {
		q.ticket = ticket
	}
	return err
}

// tooMany answers as upstream does, in plain text: clients have words of their own.
func (q *request) tooMany() {
	q.terminated = true
	const text = "Too many requests, please try again later."
	s := statusOf(apierrors.NewTooManyRequests(text, 1))
	q.errored = &s
	q.w.Header().Set("Retry-After", "1")
	http.Error(q.w, text, http.StatusTooManyRequests)
}
