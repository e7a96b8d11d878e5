package webhook

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/resource"
	"sagong/apiserver/turn"
	"sagong/reconcile"
)

// Validating asks the webhooks of ValidatingWebhookConfigurations.
type Validating struct {
	Options
	hooks list
	view  *reconcile.View[*admissionregistrationv1.ValidatingWebhookConfiguration]
}

// NewValidating follows the configurations in the hub.
func NewValidating(hub *reconcile.Hub, o Options) *Validating {
	w := &Validating{Options: o, view: reconcile.ViewOf[*admissionregistrationv1.ValidatingWebhookConfiguration](hub)}
	w.view.OnChange(func(old, now *admissionregistrationv1.ValidatingWebhookConfiguration) {
		if now == nil {
			w.hooks.set(old.Name, nil)
			return
		}
		w.hooks.set(now.Name, validatingHooksOf(now, o.Conditions))
	})
	return w
}

// Name implements admission.Plugin.
func (w *Validating) Name() string { return "ValidatingAdmissionWebhook" }

// Synced waits until all configurations are known.
func (w *Validating) Synced(ctx context.Context) error { return w.view.Need(ctx) }

// called is one call and what came of it.
type called struct {
	*hook
	match.Target
	objects
	answer *answer
	openly bool
	err    error
}

// Validate implements admission.Validator. The first webhook in order that
// refuses decides.
func (w *Validating) Validate(ctx context.Context, a *resource.Attributes) error {
	hooks := w.hooks.now.Load()
	if hooks == nil {
		return nil
	}
	r, ok := match.New(w.Client.Scheme(), a, match.Webhooks)
	if !ok {
		return nil
	}
	calls, err := w.choose(ctx, *hooks, r)
	if err != nil || len(calls) == 0 {
		return err
	}
	if ctx.Err() != nil {
		return apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	var wg sync.WaitGroup
	asked := time.Now()
	for i := range calls {
		wg.Go(func() {
			c := &calls[i]
			begun := time.Now()
			c.answer, c.err = w.call(ctx, c.hook, r, c.Target, c.objects, false)
			if c.err == nil && !c.answer.allowed {
				c.err = denied(c.Name, c.answer.result)
			}
			c.openly, c.err = w.outcome(ctx, c.hook, r, "validating", time.Since(begun), c.err)
		})
	}
	wg.Wait()
	turn.Waited(ctx, time.Since(asked))
	// What is said is said in order, by one goroutine.
	for i := range calls {
		c := &calls[i]
		if c.answer != nil {
			tell(a, c.hook, c.answer)
		}
		if c.openly {
			a.Annotate(fmt.Sprintf("failed-open.validating.webhook.admission.k8s.io/round_0_index_%d", i), c.Name)
		}
		if err == nil {
			err = c.err
		}
	}
	return err
}

// choose finds the webhooks to ask, and encodes the objects once a version.
func (w *Validating) choose(ctx context.Context, hooks []*hook, r *match.Request) (calls []called, err error) {
	for _, h := range hooks {
		t, ok, err := w.wanted(ctx, h, r)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		c := called{hook: h, Target: t}
		for _, before := range calls {
			if before.Kind == t.Kind {
				c.objects = before.objects
			}
		}
		if c.objects.options == nil && c.objects.object == nil {
			if c.objects, err = encode(r, t); err != nil {
				return nil, apierrors.NewInternalError(err)
			}
		}
		calls = append(calls, c)
	}
	return calls, nil
}

// tell passes on what a webhook said besides its verdict.
func tell(a *resource.Attributes, h *hook, said *answer) {
	for k, v := range said.annotations {
		key := h.Name + "/" + k
		if strings.Count(key, "/") == 1 && len(validation.IsQualifiedName(key)) == 0 {
			a.Annotate(key, v)
		}
	}
	for _, text := range said.warnings {
		a.Warn(text)
	}
}
