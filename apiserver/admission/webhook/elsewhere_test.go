package webhook_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/turn"
)

// What a write waits for its webhooks is known to the request.
func TestTimeOfWebhooksIsKnown(t *testing.T) {
	for _, mutating := range []bool{true, false} {
		h := newHouse(t)
		h.on("/allow", allow)
		own := &turn.Turn{Yield: func() {}}
		create := func() {
			o := configMap("c")
			at := h.target(o, "")
			at.Name = ""
			if _, err := h.engine.Create(turn.With(t.Context(), own), h.caller, at, o, &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
				t.Fatal(err)
			}
		}
		if create(); own.Waits() != 0 {
			t.Errorf("waited %s for nothing", own.Waits())
		}
		if mutating {
			h.registerMutating("m", h.mutating("/allow", rule([]string{"configmaps"}, "CREATE")))
		} else {
			h.registerValidating("v", h.validating("/allow", rule([]string{"configmaps"}, "CREATE")))
		}
		if create(); own.Waits() <= 0 {
			t.Errorf("mutating %t: the wait was not counted", mutating)
		}
	}
}
