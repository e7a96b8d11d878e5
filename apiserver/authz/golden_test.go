package authz_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"sagong/apiserver/authz"
)

// facts writes roles and bindings as lines, so that they can be compared with
// upstream's golden files: what a role holds as "role NAME: VERBS GROUPS RESOURCES
// [NAMES]", each list in order and joined by commas.
func facts() (lines []string) {
	list := func(s []string) string {
		s = slices.Clone(s)
		slices.Sort(s)
		for i, x := range s {
			if x == "" {
				s[i] = "core"
			}
		}
		return strings.Join(s, ",")
	}
	role := func(name string, rules []rbacv1.PolicyRule) {
		for _, r := range rules {
			what := list(r.APIGroups) + " " + list(r.Resources)
			if len(r.NonResourceURLs) > 0 {
				what = list(r.NonResourceURLs)
			}
			line := "role " + name + ": " + list(r.Verbs) + " " + what
			if len(r.ResourceNames) > 0 {
				line += " [" + list(r.ResourceNames) + "]"
			}
			lines = append(lines, line)
		}
	}
	bind := func(name, to string, subjects []rbacv1.Subject) {
		var who []string
		for _, s := range subjects {
			who = append(who, s.Kind+":"+s.Namespace+"/"+s.Name)
		}
		lines = append(lines, "binding "+name+": "+to+" "+list(who))
	}
	for _, r := range authz.BootstrapClusterRoles() {
		role(r.Name, r.Rules)
		for k := range r.Labels {
			if k != "kubernetes.io/bootstrapping" {
				lines = append(lines, "label "+r.Name+": "+k)
			}
		}
		if a := r.AggregationRule; a != nil {
			for _, s := range a.ClusterRoleSelectors {
				for k := range s.MatchLabels {
					lines = append(lines, "aggregates "+r.Name+": "+k)
				}
			}
		}
	}
	for _, r := range authz.BootstrapRoles() {
		role(r.Namespace+"/"+r.Name, r.Rules)
	}
	for _, b := range authz.BootstrapClusterRoleBindings() {
		bind(b.Name, b.RoleRef.Name, b.Subjects)
	}
	for _, b := range authz.BootstrapRoleBindings() {
		bind(b.Namespace+"/"+b.Name, b.RoleRef.Name, b.Subjects)
	}
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	slices.Sort(lines)
	return lines
}

// The roles and bindings are upstream's, but for those that testdata/own.txt names
// with the reason.
func TestGoldenRoles(t *testing.T) {
	read := func(name string) (lines []string) {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	want, got := append(read("upstream.txt"), read("own.txt")...), facts()
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("not upstream's: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
}
