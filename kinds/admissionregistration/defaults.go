package admissionregistration

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds/fill"
)

func defaultRules(rules []admissionregistrationv1.RuleWithOperations) {
	for i := range rules {
		fill.Ptr(&rules[i].Scope, admissionregistrationv1.AllScopes)
	}
}

func defaultClient(c *admissionregistrationv1.WebhookClientConfig) {
	if c.Service != nil {
		fill.Ptr(&c.Service.Port, 443)
	}
}

func defaultValidatingWebhooks(c *admissionregistrationv1.ValidatingWebhookConfiguration) {
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		fill.Ptr(&w.FailurePolicy, admissionregistrationv1.Fail)
		fill.Ptr(&w.MatchPolicy, admissionregistrationv1.Equivalent)
		fill.Ptr(&w.NamespaceSelector, metav1.LabelSelector{})
		fill.Ptr(&w.ObjectSelector, metav1.LabelSelector{})
		fill.Ptr(&w.TimeoutSeconds, 10)
		defaultRules(w.Rules)
		defaultClient(&w.ClientConfig)
	}
}

func defaultMutatingWebhooks(c *admissionregistrationv1.MutatingWebhookConfiguration) {
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		fill.Ptr(&w.FailurePolicy, admissionregistrationv1.Fail)
		fill.Ptr(&w.MatchPolicy, admissionregistrationv1.Equivalent)
		fill.Ptr(&w.NamespaceSelector, metav1.LabelSelector{})
		fill.Ptr(&w.ObjectSelector, metav1.LabelSelector{})
		fill.Ptr(&w.TimeoutSeconds, 10)
		fill.Ptr(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
		defaultRules(w.Rules)
		defaultClient(&w.ClientConfig)
	}
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	fill.Ptr(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	fill.Ptr(&m.NamespaceSelector, metav1.LabelSelector{})
	fill.Ptr(&m.ObjectSelector, metav1.LabelSelector{})
	for _, list := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range list {
			fill.Ptr(&list[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}
