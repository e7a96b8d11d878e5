package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/resource"
	"sagong/apiserver/turn"
	"sagong/reconcile"
)

// Mutating asks the webhooks of MutatingWebhookConfigurations.
type Mutating struct {
	Options
	hooks list
	view  *reconcile.View[*admissionregistrationv1.MutatingWebhookConfiguration]
}

// NewMutating follows the configurations in the hub.
func NewMutating(hub *reconcile.Hub, o Options) *Mutating {
	w := &Mutating{Options: o, view: reconcile.ViewOf[*admissionregistrationv1.MutatingWebhookConfiguration](hub)}
	w.view.OnChange(func(old, now *admissionregistrationv1.MutatingWebhookConfiguration) {
		if now == nil {
			w.hooks.set(old.Name, nil)
			return
		}
		w.hooks.set(now.Name, hooksOf(now, o.Conditions))
	})
	return w
}

// Name implements admission.Plugin.
func (w *Mutating) Name() string { return "MutatingAdmissionWebhook" }

// AsksAgain implements admission.Rounder.
func (w *Mutating) AsksAgain() {}

// Synced waits until all configurations are known.
func (w *Mutating) Synced(ctx context.Context) error { return w.view.Need(ctx) }

// maxPatchOperations bounds a patch as that of a client is.
const maxPatchOperations = 10000

// Admit implements admission.Mutator. In the second round only those webhooks
// are asked again that want to be and whose object changed after their turn.
func (w *Mutating) Admit(ctx context.Context, a *resource.Attributes) error {
	hooks := w.hooks.now.Load()
	if hooks == nil {
		return nil
	}
	r, ok := match.New(w.Client.Scheme(), a, match.Webhooks)
	if !ok {
		return nil
	}
	again := match.RoundsOf(a, w.Name())
	for i, h := range *hooks {
		t, ok, err := w.wanted(ctx, h, r)
		if err != nil {
			return err
		}
		if !ok || !again.Due(h.id) {
			continue
		}
		changed, err := w.ask(ctx, h, r, t, i)
		if err != nil {
			return err
		}
		again.Done(h.id, changed, h.ReinvocationPolicy != nil && *h.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy)
	}
	again.End()
	return nil
}

// ask asks one webhook and changes the object as it says.
func (w *Mutating) ask(ctx context.Context, h *hook, r *match.Request, t match.Target, index int) (changed bool, err error) {
	round := fmt.Sprintf("round_%d_index_%d", r.Round, index)
	key := "mutation.webhook.admission.k8s.io/" + round
	begun := time.Now()
	obj, err := encode(r, t)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	said, err := w.call(ctx, h, r, t, obj, true)
	var unfit error
	if err == nil {
		tell(r.Attributes, h, said)
		if !said.allowed {
			err = denied(h.Name, said.result)
		} else {
			var patch jsonpatch.Patch
			if changed, patch, unfit, err = w.apply(h, r, t, obj, said); patch != nil {
				note, _ := json.Marshal(struct {
					Configuration string          `json:"configuration"`
					Webhook       string          `json:"webhook"`
					Patch         jsonpatch.Patch `json:"patch,omitempty"`
					PatchType     string          `json:"patchType,omitempty"`
				}{h.configuration, h.Name, patch, string(said.patchType)})
				r.Annotate("patch.webhook.admission.k8s.io/"+round, string(note))
			}
		}
	}
	took := time.Since(begun)
	turn.Waited(ctx, took)
	openly, err := w.outcome(ctx, h, r, "admit", took, err)
	if openly {
		r.Annotate("failed-open."+key, h.Name)
	}
	note, _ := json.Marshal(struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Mutated       bool   `json:"mutated"`
	}{h.configuration, h.Name, changed})
	r.Annotate(key, string(note))
	switch {
	case err != nil:
	case unfit != nil:
		err = unfit
	case openly && ctx.Err() != nil:
		err = apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	return changed, err
}

// apply changes the object by a webhook's patch, and returns what was applied;
// nil for nothing. What it made may be unfit for the object's kind, which is not
// the call's failure.
func (w *Mutating) apply(h *hook, r *match.Request, t match.Target, before objects, said *answer) (changed bool, patch jsonpatch.Patch, unfit, _ error) {
	if len(said.patch) == 0 {
		return false, nil, nil, nil
	}
	patch, err := jsonpatch.DecodePatch(said.patch)
	if err != nil {
		return false, nil, nil, &failure{h.Name, fmt.Errorf("received undecodable patch in webhook response: %w", err), http.StatusServiceUnavailable}
	}
	if len(patch) == 0 {
		return false, nil, nil, nil
	}
	if before.is == nil {
		return false, nil, nil, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", h.Name))
	}
	if said.patchType != admissionv1.PatchTypeJSONPatch {
		return false, nil, nil, &failure{h.Name, fmt.Errorf("unsupported patch type %q", said.patchType), int(denied(h.Name, said.result).ErrStatus.Code)}
	}
	after, err := applyPatch(before.object, patch)
	if err != nil {
		return false, nil, nil, apierrors.NewInternalError(err)
	}
	obj, err := r.Decode(after, t.Kind)
	if err != nil {
		return false, nil, nil, apierrors.NewInternalError(err)
	}
	changed = !equality.Semantic.DeepEqual(before.is, obj)
	err = r.Set(obj)
	var status *apierrors.StatusError
	if err != nil && !errors.As(err, &status) {
		err = &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}}
	}
	return changed, patch, err, nil
}

// applyPatch is a JSON patch, bounded as a client's is.
func applyPatch(before []byte, patch jsonpatch.Patch) ([]byte, error) {
	if len(patch) > maxPatchOperations {
		return nil, fmt.Errorf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(patch))
	}
	after, err := patch.Apply(before)
	if err == nil && len(after) > maxAnswer {
		err = errors.New("the patched object is too large")
	}
	return after, err
}
