package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/webhookclient"
	"sagong/client"
	"sagong/lib/tracing"
)

// Options are what both sorts of webhook need.
type Options struct {
	// Client reads with the server's own rights.
	Client     client.Client
	Clients    *webhookclient.Clients
	Authorizer authorizer.UnconditionalAuthorizer
	Metrics    *Metrics
	Conditions *match.Metrics
	Log        *slog.Logger
}

// maxAnswer bounds an answer, in bytes: a patch that replaces the greatest
// object there is, twice encoded, has room.
const maxAnswer = 8 << 20

// failure is a webhook that could not be asked, as opposed to one that denied.
type failure struct {
	hook   string
	reason error
	code   int // for metrics
}

// rejection is the answer of a webhook that denied.
type rejection struct{ *apierrors.StatusError }

func (f *failure) Error() string {
	return fmt.Sprintf("failed calling webhook %q: %v", f.hook, f.reason)
}

func (f *failure) Unwrap() error { return f.reason }

// wanted says whether a webhook is to be asked about a write, and in which
// version.
func (o *Options) wanted(ctx context.Context, h *hook, r *match.Request) (match.Target, bool, error) {
	ok, selectErr := h.selectors.Match(ctx, o.Client, r)
	if !ok {
		return match.Target{}, false, nil
	}
	t, ok := match.Rule(r, h.Rules, match.Plain, h.MatchPolicy)
	if !ok {
		return t, false, nil
	}
	if selectErr != nil {
		return t, false, selectErr
	}
	if h.conditions == nil {
		return t, true, nil
	}
	v, err := r.Versioned(t)
	if err != nil {
		return t, false, apierrors.NewInternalError(err)
	}
	c := h.conditions()
	ok, err = c.Hold(ctx, v, nil, o.Authorizer)
	if err != nil {
		return t, false, apierrors.NewForbidden(r.Resource.GroupResource(), r.Name, err)
	}
	if !ok {
		o.Conditions.Excluded(c, string(r.Operation))
	}
	return t, ok, nil
}

// call asks one webhook. The error is a *failure when there was no answer, else
// the API's.
func (o *Options) call(ctx context.Context, h *hook, r *match.Request, t match.Target, obj objects, mutating bool) (*answer, error) {
	if r.DryRun && !h.dryRuns() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", h.Name))
	}
	version, uid, body, err := question(h, r, t, obj)
	if err != nil {
		return nil, &failure{h.Name, fmt.Errorf("could not create admission objects: %w", err), http.StatusBadRequest}
	}
	name := "Call validating webhook"
	if mutating {
		name = "Call mutating webhook"
	}
	ctx, span := tracing.Start(ctx, name, func() []attribute.KeyValue {
		return []attribute.KeyValue{
			attribute.String("configuration", h.configuration), attribute.String("webhook", h.Name), attribute.String("resource", t.Resource.String()),
			attribute.String("subresource", r.Subresource), attribute.String("operation", string(r.Operation)), attribute.String("UID", string(uid)),
		}
	})
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, h.timeout())
	defer cancel()
	said, err := o.Clients.Ask(ctx, h.at, body, maxAnswer)
	span.Fail(err)
	span.Event("Request completed")
	var unusable webhookclient.Unusable
	if errors.As(err, &unusable) {
		return nil, &failure{h.Name, fmt.Errorf("could not get REST client: %w", err), http.StatusInternalServerError}
	}
	var review runtime.Object
	if err == nil {
		review, err = decodeReview(version, said)
	}
	if err != nil {
		code := http.StatusServiceUnavailable
		var status *apierrors.StatusError
		if errors.As(err, &status) {
			code = int(status.ErrStatus.Code)
		}
		return nil, &failure{h.Name, fmt.Errorf("failed to call webhook: %w", err), code}
	}
	a, err := readAnswer(uid, mutating, review)
	if err != nil {
		return nil, &failure{h.Name, fmt.Errorf("received invalid webhook response: %w", err), http.StatusServiceUnavailable}
	}
	return a, nil
}

// outcome judges the end of a call: it counts it, and turns a failure into the
// API's error, or into nothing when the webhook's failures are ignored.
func (o *Options) outcome(ctx context.Context, h *hook, r *match.Request, sort string, took time.Duration, err error) (openly bool, _ error) {
	op := string(r.Operation)
	var f *failure
	var no *rejection
	var status *apierrors.StatusError
	switch {
	case err == nil:
		o.Metrics.request(h.Name, sort, op, took, false, http.StatusOK)
		return false, nil
	case errors.As(err, &f):
		canceled := errors.Is(err, context.Canceled)
		o.Metrics.request(h.Name, sort, op, took, !h.ignore, f.code)
		if !h.ignore {
			if !canceled {
				o.Metrics.rejection(h.Name, sort, op, "calling_webhook_error", f.code)
			}
			o.Log.Warn("webhook failed, the request is refused", "webhook", h.Name, "err", err)
			return false, apierrors.NewInternalError(f)
		}
		if !canceled {
			o.Metrics.open(h.Name, sort)
			o.Log.Warn("webhook failed and is ignored", "webhook", h.Name, "err", err)
		}
		return !canceled, nil
	case errors.As(err, &no):
		o.Metrics.request(h.Name, sort, op, took, true, int(no.ErrStatus.Code))
		o.Metrics.rejection(h.Name, sort, op, "no_error", int(no.ErrStatus.Code))
		return false, no.StatusError
	}
	o.Metrics.request(h.Name, sort, op, took, true, 0)
	o.Metrics.rejection(h.Name, sort, op, "apiserver_internal_error", 0)
	if errors.As(err, &status) {
		return false, status
	}
	return false, apierrors.NewInternalError(err)
}
