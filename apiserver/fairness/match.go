package fairness

import (
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Request is what a flow schema looks at.
type Request struct {
	User user.Info
	Verb string
	Path string // of requests that are not about a resource
	// Resource requests are about an API object; Plural is "pods" or "pods/status".
	Resource                 bool
	Group, Plural, Namespace string
}

// schema is a FlowSchema, ready to be compared with requests.
type schema struct {
	name       string
	uid        types.UID
	precedence int32
	level      *level
	by         flowcontrolv1.FlowDistinguisherMethodType
	rules      []flowcontrolv1.PolicyRulesWithSubjects
}

func newSchema(f *flowcontrolv1.FlowSchema, l *level) *schema {
	s := &schema{name: f.Name, uid: f.UID, precedence: f.Spec.MatchingPrecedence, level: l, rules: f.Spec.Rules}
	if d := f.Spec.DistinguisherMethod; d != nil {
		s.by = d.Type
	}
	return s
}

// classify finds the first schema that matches, and the name of the flow. The
// last one matches everything.
func (c *Controller) classify(r *Request) (s *schema, flow string) {
	s = c.schemas[len(c.schemas)-1]
	for _, candidate := range c.schemas {
		if candidate.matches(r) {
			s = candidate
			break
		}
	}
	switch s.by {
	case flowcontrolv1.FlowDistinguisherMethodByUserType:
		flow = r.User.GetName()
	case flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
		flow = r.Namespace
	}
	return s, flow
}

func (s *schema) matches(r *Request) bool {
	for i := range s.rules {
		rule := &s.rules[i]
		if !slices.ContainsFunc(rule.Subjects, func(sub flowcontrolv1.Subject) bool { return matchesSubject(sub, r.User) }) {
			continue
		}
		if r.Resource {
			if slices.ContainsFunc(rule.ResourceRules, func(p flowcontrolv1.ResourcePolicyRule) bool { return matchesResource(&p, r) }) {
				return true
			}
		} else if slices.ContainsFunc(rule.NonResourceRules, func(p flowcontrolv1.NonResourcePolicyRule) bool { return matchesPath(&p, r) }) {
			return true
		}
	}
	return false
}

func matchesSubject(s flowcontrolv1.Subject, u user.Info) bool {
	switch s.Kind {
	case flowcontrolv1.SubjectKindUser:
		return s.User != nil && (s.User.Name == flowcontrolv1.NameAll || s.User.Name == u.GetName())
	case flowcontrolv1.SubjectKindGroup:
		return s.Group != nil && (s.Group.Name == flowcontrolv1.NameAll || slices.Contains(u.GetGroups(), s.Group.Name))
	case flowcontrolv1.SubjectKindServiceAccount:
		if s.ServiceAccount == nil {
			return false
		}
		if s.ServiceAccount.Name == flowcontrolv1.NameAll {
			return strings.HasPrefix(u.GetName(), serviceaccount.ServiceAccountUsernamePrefix+s.ServiceAccount.Namespace+":")
		}
		return serviceaccount.MatchesUsername(s.ServiceAccount.Namespace, s.ServiceAccount.Name, u.GetName())
	}
	return false
}

func matchesResource(p *flowcontrolv1.ResourcePolicyRule, r *Request) bool {
	if !has(p.Verbs, r.Verb) || !has(p.APIGroups, r.Group) || !has(p.Resources, r.Plural) {
		return false
	}
	if r.Namespace == "" {
		return p.ClusterScope
	}
	return has(p.Namespaces, r.Namespace)
}

// matchesPath takes a path that is named or lies below one that is.
func matchesPath(p *flowcontrolv1.NonResourcePolicyRule, r *Request) bool {
	return has(p.Verbs, r.Verb) && slices.ContainsFunc(p.NonResourceURLs, func(url string) bool {
		if url == "*" || url == r.Path {
			return true
		}
		below := strings.TrimSuffix(strings.TrimSuffix(url, "*"), "/") + "/"
		return strings.HasPrefix(r.Path, below)
	})
}

// has says whether a list names a value or, by "*", all.
func has(list []string, value string) bool {
	return slices.Contains(list, value) || slices.Contains(list, "*")
}
