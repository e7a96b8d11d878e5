package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

type aggregationController struct {
	roles *reconcile.View[*rbacv1.ClusterRole]
}

// NewClusterRoleAggregation returns the controller that fills the rules of
// ClusterRoles with an aggregation rule from those it selects.
func NewClusterRoleAggregation(h *reconcile.Hub) reconcile.Controller {
	c := &aggregationController{reconcile.ViewOf[*rbacv1.ClusterRole](h)}
	c.roles.Index("aggregated", func(r *rbacv1.ClusterRole) []string {
		if r.AggregationRule == nil {
			return nil
		}
		return []string{""}
	})
	return c
}

func (c *aggregationController) Name() string { return "clusterrole-aggregation" }

func (c *aggregationController) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(c.roles, func(_, _ *rbacv1.ClusterRole, enqueue func(object.Key)) {
		for _, r := range c.roles.By("aggregated", "") {
			enqueue(object.KeyOf(r))
		}
	})}
}

func (c *aggregationController) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.roles.Definition().GVK().GroupKind(), Field: "rules of aggregated"}}
}

func (c *aggregationController) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	role, ok := c.roles.Get("", key.Name)
	if !ok || role.AggregationRule == nil {
		return reconcile.Result{}, nil
	}
	rules, err := aggregate(role, c.roles.All())
	if err != nil {
		return reconcile.Result{}, err
	}
	if equality.Semantic.DeepEqual(role.Rules, rules) {
		return reconcile.Result{}, nil
	}
	next := role.DeepCopy()
	next.Rules = rules
	_, err = client.Update(ctx, w, next)
	return reconcile.Result{}, err
}

// aggregate unites the rules of the roles that role selects, in the order of its
// selectors and of names, each rule once.
func aggregate(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	slices.SortFunc(all, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("cannot read selector %d: %w", i, err)
		}
		for _, other := range all {
			if other.Name == role.Name || !selector.Matches(labels.Set(other.Labels)) {
				continue
			}
			for _, rule := range other.Rules {
				if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
					rules = append(rules, *rule.DeepCopy())
				}
			}
		}
	}
	return rules, nil
}
