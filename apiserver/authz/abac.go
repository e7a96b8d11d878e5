package authz

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Policies are those of a policy file; each allows something:
// https://kubernetes.io/docs/reference/access-authn-authz/abac/
type Policies []Policy

// Policy allows whom it names (a user who is also in the group, if it names both)
// what it says.
type Policy struct {
	User            string `json:"user,omitempty"`
	Group           string `json:"group,omitempty"`
	Readonly        bool   `json:"readonly,omitempty"`
	APIGroup        string `json:"apiGroup,omitempty"`
	Resource        string `json:"resource,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	NonResourcePath string `json:"nonResourcePath,omitempty"`
}

// policyLine is a line of version v1beta1, oldPolicyLine one without a version.
type policyLine struct {
	metav1.TypeMeta `json:",inline"`
	Spec            Policy `json:"spec"`
}

type oldPolicyLine struct {
	metav1.TypeMeta `json:",inline"`
	User            string `json:"user,omitempty"`
	Group           string `json:"group,omitempty"`
	Readonly        bool   `json:"readonly,omitempty"`
	Resource        string `json:"resource,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
}

func (p *policyLine) DeepCopyObject() runtime.Object    { out := *p; return &out }
func (p *oldPolicyLine) DeepCopyObject() runtime.Object { out := *p; return &out }

// ReadPolicies reads a policy file: a JSON object on each line, but for those that
// are empty or begin with #. path is for errors.
func ReadPolicies(path string, in io.Reader) (Policies, error) {
	group := schema.GroupVersion{Group: "abac.authorization.kubernetes.io", Version: "v1beta1"}
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(group.WithKind("Policy"), &policyLine{})
	group.Version = "v0"
	scheme.AddKnownTypeWithName(group.WithKind("Policy"), &oldPolicyLine{})
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	all := Policies{}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		line := lines.Bytes()
		if t := strings.TrimSpace(string(line)); t == "" || strings.HasPrefix(t, "#") {
			continue
		}
		o, _, err := decoder.Decode(line, nil, nil)
		if runtime.IsMissingVersion(err) || runtime.IsMissingKind(err) || runtime.IsNotRegisteredError(err) {
			o = &oldPolicyLine{}
			err = runtime.DecodeInto(decoder, line, o)
		}
		if err != nil {
			return nil, fmt.Errorf("error reading policy file %s, line %d: %s: %w", path, n, line, err)
		}
		all = append(all, policyOf(o))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("error reading policy file %s: %w", path, err)
	}
	return all, nil
}

// policyOf says in full what a line leaves out: everybody means all who are
// authenticated, and what lines without a version do not name means all.
func policyOf(o runtime.Object) Policy {
	var p Policy
	switch l := o.(type) {
	case *policyLine:
		p = l.Spec
	case *oldPolicyLine:
		p = Policy{User: l.User, Group: l.Group, Readonly: l.Readonly, APIGroup: "*", Resource: l.Resource, Namespace: l.Namespace}
		if p.User == "" && p.Group == "" {
			p.Group = user.AllAuthenticated
		}
		if p.Namespace == "" && p.Resource == "" {
			p.NonResourcePath = "*"
		}
		if p.Namespace == "" {
			p.Namespace = "*"
		}
		if p.Resource == "" {
			p.Resource = "*"
		}
	}
	if p.User == "*" || p.Group == "*" {
		p.User, p.Group = "", user.AllAuthenticated
	}
	return p
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (l Policies) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	for i := range l {
		if p := &l[i]; p.isFor(a.GetUser()) && (a.IsReadOnly() || !p.Readonly) && p.covers(a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "No policy matched.", nil
}

func (p *Policy) isFor(u user.Info) bool {
	return u != nil && (p.User != "" || p.Group != "") &&
		(p.User == "" || p.User == u.GetName()) && (p.Group == "" || slices.Contains(u.GetGroups(), p.Group))
}

func (p *Policy) covers(a authorizer.Attributes) bool {
	is := func(want, got string) bool { return want == "*" || want == got }
	if a.IsResourceRequest() {
		return is(p.Namespace, a.GetNamespace()) && is(p.Resource, a.GetResource()) && is(p.APIGroup, a.GetAPIGroup())
	}
	return is(p.NonResourcePath, a.GetPath()) ||
		strings.HasSuffix(p.NonResourcePath, "*") && strings.HasPrefix(a.GetPath(), strings.TrimRight(p.NonResourcePath, "*"))
}

// Rules implements Lister.
func (l Policies) Rules(u user.Info, namespace string) (rules []rbacv1.PolicyRule, _ bool, _ error) {
	for i := range l {
		p := &l[i]
		if !p.isFor(u) || p.Namespace != "*" && p.Namespace != namespace {
			continue
		}
		verbs := []string{"*"}
		if p.Readonly {
			verbs = []string{"get", "list", "watch"}
		}
		if p.Resource != "" {
			rules = append(rules, rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{p.APIGroup}, Resources: []string{p.Resource}})
		}
		if p.NonResourcePath != "" {
			rules = append(rules, rbacv1.PolicyRule{Verbs: verbs, NonResourceURLs: []string{p.NonResourcePath}})
		}
	}
	return rules, false, nil
}
