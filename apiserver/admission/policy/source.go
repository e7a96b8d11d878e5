// Package policy evaluates ValidatingAdmissionPolicies and
// MutatingAdmissionPolicies: expressions that users let the API server judge and
// change writes by, without a server of their own.
package policy

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionauthorizer "k8s.io/apiserver/pkg/admission/plugin/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/admission/match"
	"sagong/client"
	"sagong/object"
)

// Options are what both sorts of policy need.
type Options struct {
	// Client reads params and Namespaces with the server's own rights.
	Client     client.Client
	Authorizer authorizer.UnconditionalAuthorizer
	// Fields has the schemas by which mutations are merged.
	Fields     *object.FieldManagers
	Metrics    *Metrics
	Conditions *match.Metrics
	Log        *slog.Logger
}

// asked is the authorizer for one write: the same question is asked once.
func (o *Options) asked() authorizer.UnconditionalAuthorizer {
	if o.Authorizer == nil {
		return nil
	}
	return admissionauthorizer.NewCachingAuthorizer(o.Authorizer)
}

// criteria are what a policy or binding says about the writes it is for.
type criteria struct {
	*admissionregistrationv1.MatchResources
	selectors match.Selectors
}

func newCriteria(m *admissionregistrationv1.MatchResources) *criteria {
	if m == nil {
		return nil
	}
	return &criteria{m, match.NewSelectors(m.NamespaceSelector, m.ObjectSelector)}
}

// match says whether a write is meant, and in which version.
func (c *criteria) match(ctx context.Context, cl client.Client, r *match.Request) (match.Target, bool, error) {
	own := match.Target{Resource: r.Resource, Kind: r.Kind}
	if c == nil {
		return own, true, nil
	}
	ok, selectErr := c.selectors.Match(ctx, cl, r)
	if !ok {
		return own, false, nil
	}
	if _, excluded := match.Rule(r, c.ExcludeResourceRules, match.Named, c.MatchPolicy); excluded {
		return own, false, nil
	}
	t := own
	if len(c.ResourceRules) > 0 {
		if t, ok = match.Rule(r, c.ResourceRules, match.Named, c.MatchPolicy); !ok {
			return own, false, nil
		}
	}
	return t, true, selectErr
}

// binding is one that puts a policy in force.
type binding struct {
	name    string
	params  *admissionregistrationv1.ParamRef
	match   *criteria
	actions []admissionregistrationv1.ValidationAction
}

// rule is a policy with its bindings. E is its compiled form, made when a write
// first needs it and kept as long as the policy does not change.
type rule[E any] struct {
	name        string
	constraints *criteria
	params      *paramKind // nil for a policy without
	ignore      bool
	evaluator   func() (E, error)
	bindings    []*binding
}

// rules holds all policies of one sort. Readers pay one load.
type rules[E any] struct {
	now atomic.Pointer[[]*rule[E]] // policies in force; nil when there are none

	scheme   *object.Scheme
	mu       sync.Mutex
	policies map[string]*rule[E]
	bindings map[string]bound
	kinds    map[admissionregistrationv1.ParamKind]*paramKind // of policies in force
}

type bound struct {
	policy string
	*binding
}

// setPolicy puts a policy in the place of the one of the same name; nil removes
// it.
func (s *rules[E]) setPolicy(name string, r *rule[E]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policies == nil {
		s.policies = map[string]*rule[E]{}
	}
	if delete(s.policies, name); r != nil {
		s.policies[name] = r
	}
	s.publish()
}

// setBinding does the same for a binding.
func (s *rules[E]) setBinding(name, policy string, b *binding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bindings == nil {
		s.bindings = map[string]bound{}
	}
	if delete(s.bindings, name); b != nil {
		s.bindings[name] = bound{policy, b}
	}
	s.publish()
}

// publish joins policies and bindings, in the order of their names.
func (s *rules[E]) publish() {
	byPolicy := map[string][]*binding{}
	for _, b := range s.bindings {
		byPolicy[b.policy] = append(byPolicy[b.policy], b.binding)
	}
	var all []*rule[E]
	kinds := map[admissionregistrationv1.ParamKind]*paramKind{}
	for name, r := range s.policies {
		if len(byPolicy[name]) == 0 {
			continue
		}
		joined := *r
		joined.bindings = byPolicy[name]
		if r.params != nil {
			if joined.params = kinds[r.params.ParamKind]; joined.params == nil {
				if joined.params = s.kinds[r.params.ParamKind]; joined.params == nil {
					joined.params = newParamKind(&r.params.ParamKind)
				}
				kinds[r.params.ParamKind] = joined.params
				_, _, _ = joined.params.find(s.scheme) // so that it is known to have been there
			}
		}
		slices.SortFunc(joined.bindings, func(a, b *binding) int { return cmp.Compare(a.name, b.name) })
		all = append(all, &joined)
	}
	s.kinds = kinds
	if all == nil {
		s.now.Store(nil)
		return
	}
	slices.SortFunc(all, func(a, b *rule[E]) int { return cmp.Compare(a.name, b.name) })
	s.now.Store(&all)
}

// configuration says that a policy or binding could not be put to use.
func configuration(b *binding, err error) error {
	if b == nil {
		return fmt.Errorf("failed to configure policy: %w", err)
	}
	return fmt.Errorf("failed to configure binding: %w", err)
}
