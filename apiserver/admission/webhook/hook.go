// Package webhook asks admission webhooks about writes: those that mutate one
// after the other, those that validate at the same time.
package webhook

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/webhookclient"
	"sagong/kinds/expression"
)

// hook is one webhook, with everything about it parsed.
type hook struct {
	admissionregistrationv1.MutatingWebhook
	configuration string
	id            string
	at            webhookclient.Config
	selectors     match.Selectors
	ignore        bool
	// conditions are compiled when a write comes that all else matches; nil for
	// a webhook without.
	conditions func() *match.Conditions
}

func newHook(configuration string, i int, w admissionregistrationv1.MutatingWebhook, kind string, m *match.Metrics) *hook {
	h := &hook{
		MutatingWebhook: w, configuration: configuration, id: fmt.Sprintf("%s/%s/%d", configuration, w.Name, i),
		at: webhookclient.Config{CABundle: w.ClientConfig.CABundle}, ignore: match.Ignores(w.FailurePolicy),
		selectors: match.NewSelectors(w.NamespaceSelector, w.ObjectSelector),
	}
	if w.ClientConfig.URL != nil {
		h.at.URL = *w.ClientConfig.URL
	}
	if s := w.ClientConfig.Service; s != nil {
		h.at.Service = &webhookclient.Service{Namespace: s.Namespace, Name: s.Name}
		if s.Path != nil {
			h.at.Service.Path = *s.Path
		}
		if s.Port != nil {
			h.at.Service.Port = *s.Port
		}
	}
	if len(w.MatchConditions) > 0 {
		h.conditions = sync.OnceValue(func() *match.Conditions {
			return &match.Conditions{Name: w.Name, Sort: "webhook", Type: kind, Ignore: h.ignore, Metrics: m,
				Evaluator: expression.Conditions(expression.ConditionCompiler(), w.MatchConditions, cel.OptionalVariableDeclarations{HasAuthorizer: true})}
		})
	}
	return h
}

// timeout is how long a call may take.
func (h *hook) timeout() time.Duration {
	if h.TimeoutSeconds == nil {
		return 10 * time.Second
	}
	return time.Duration(*h.TimeoutSeconds) * time.Second
}

// dryRuns says whether the webhook may be asked about a dry run.
func (h *hook) dryRuns() bool {
	return h.SideEffects != nil && (*h.SideEffects == admissionregistrationv1.SideEffectClassNone || *h.SideEffects == admissionregistrationv1.SideEffectClassNoneOnDryRun)
}

// list is all webhooks of one sort in the order in which they are asked: by the
// name of their configuration, then as listed there. Readers pay one load.
type list struct {
	now atomic.Pointer[[]*hook] // nil when there are none

	mu    sync.Mutex
	known map[string][]*hook // by configuration
}

// set replaces the webhooks of one configuration; none means that it is gone.
func (l *list) set(configuration string, hooks []*hook) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string][]*hook{}
	}
	if len(hooks) == 0 {
		delete(l.known, configuration)
	} else {
		l.known[configuration] = hooks
	}
	var all []*hook
	for _, name := range slices.Sorted(maps.Keys(l.known)) {
		all = append(all, l.known[name]...)
	}
	if all == nil {
		l.now.Store(nil)
		return
	}
	l.now.Store(&all)
}

func hooksOf(c *admissionregistrationv1.MutatingWebhookConfiguration, m *match.Metrics) []*hook {
	out := make([]*hook, len(c.Webhooks))
	for i := range c.Webhooks {
		out[i] = newHook(c.Name, i, c.Webhooks[i], "admit", m)
	}
	return out
}

// validatingHooksOf reads webhooks that validate as ones that mutate, which have
// all their fields.
func validatingHooksOf(c *admissionregistrationv1.ValidatingWebhookConfiguration, m *match.Metrics) []*hook {
	out := make([]*hook, len(c.Webhooks))
	for i, w := range c.Webhooks {
		out[i] = newHook(c.Name, i, admissionregistrationv1.MutatingWebhook{
			Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy,
			NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects,
			TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions,
		}, "validating", m)
	}
	return out
}
