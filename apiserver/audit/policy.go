// Package audit writes down who asked for what, as an audit Policy of upstream's
// says: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
//
// A request takes its rule from the policy once; what no rule wants costs a few
// comparisons and no more.
package audit

import (
	"fmt"
	"os"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	internal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/apis/audit/validation"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// ReadPolicy reads a policy file.
func ReadPolicy(path string) (*internal.Policy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := DecodePolicy(data)
	if err != nil {
		return nil, fmt.Errorf("%w: from file %s", err, path)
	}
	return p, nil
}

// DecodePolicy reads a policy, strictly.
func DecodePolicy(data []byte) (*internal.Policy, error) {
	scheme := runtime.NewScheme()
	if err := internal.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := auditv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	p := &internal.Policy{}
	_, gvk, err := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder().Decode(data, nil, p)
	if err != nil {
		return nil, fmt.Errorf("failed decoding: %w", err)
	}
	if gvk.GroupVersion() != auditv1.SchemeGroupVersion {
		return nil, fmt.Errorf("unknown group version field %v in policy", gvk)
	}
	if err := validation.ValidatePolicy(p).ToAggregate(); err != nil {
		return nil, err
	}
	if len(p.Rules) == 0 {
		return nil, fmt.Errorf("loaded illegal policy with 0 rules")
	}
	return p, nil
}

// DefaultPolicy holds without a policy file: the end of each request with its
// metadata, and nothing of health checks and the like, nor of renewals of nodes'
// leases: a thousand nodes send a hundred a second.
func DefaultPolicy() *internal.Policy {
	return &internal.Policy{
		OmitStages: []internal.Stage{internal.StageRequestReceived, internal.StageResponseStarted},
		Rules: []internal.PolicyRule{
			{Level: internal.LevelNone, NonResourceURLs: []string{"/healthz*", "/livez*", "/readyz*", "/version", "/metrics"}},
			{
				Level: internal.LevelNone, Verbs: []string{"update"}, Namespaces: []string{corev1.NamespaceNodeLease},
				Resources: []internal.GroupResources{{Group: coordinationv1.GroupName, Resources: []string{"leases"}}},
			},
			{Level: internal.LevelMetadata},
		},
	}
}

// rule is what a policy wants of a request.
type rule struct {
	level             internal.Level
	omit              []internal.Stage
	omitManagedFields bool
}

// find returns what the first rule that matches wants; without one it is
// nothing.
func find(p *internal.Policy, a authorizer.Attributes) rule {
	for i := range p.Rules {
		r := &p.Rules[i]
		if !matches(r, a) {
			continue
		}
		out := rule{level: r.Level, omit: r.OmitStages, omitManagedFields: p.OmitManagedFields}
		if len(p.OmitStages) > 0 {
			out.omit = append(slices.Clip(p.OmitStages), r.OmitStages...)
		}
		if r.OmitManagedFields != nil {
			out.omitManagedFields = *r.OmitManagedFields
		}
		return out
	}
	return rule{level: internal.LevelNone}
}

func matches(r *internal.PolicyRule, a authorizer.Attributes) bool {
	u := a.GetUser()
	if len(r.Users) > 0 && (u == nil || !slices.Contains(r.Users, u.GetName())) {
		return false
	}
	if len(r.UserGroups) > 0 && (u == nil || !slices.ContainsFunc(u.GetGroups(), func(g string) bool { return slices.Contains(r.UserGroups, g) })) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, a.GetVerb()) {
		return false
	}
	switch {
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		return matchesResource(r, a)
	case len(r.NonResourceURLs) > 0:
		return !a.IsResourceRequest() && slices.ContainsFunc(r.NonResourceURLs, func(spec string) bool {
			prefix, wild := strings.CutSuffix(spec, "*")
			return spec == a.GetPath() || wild && strings.HasPrefix(a.GetPath(), prefix)
		})
	}
	return true
}

func matchesResource(r *internal.PolicyRule, a authorizer.Attributes) bool {
	if !a.IsResourceRequest() || len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, a.GetNamespace()) {
		return false
	}
	if len(r.Resources) == 0 {
		return true
	}
	full, sub := a.GetResource(), a.GetSubresource()
	if sub != "" {
		full += "/" + sub
	}
	for i := range r.Resources {
		gr := &r.Resources[i]
		if gr.Group != a.GetAPIGroup() && gr.Group != "*" {
			continue
		}
		if len(gr.Resources) == 0 {
			return true
		}
		if len(gr.ResourceNames) > 0 && !slices.Contains(gr.ResourceNames, a.GetName()) {
			continue
		}
		for _, want := range gr.Resources {
			parent, all := strings.CutSuffix(want, "/*")
			of, any := strings.CutPrefix(want, "*/")
			if want == "*" || want == full || sub != "" && any && of == sub || all && parent == a.GetResource() {
				return true
			}
		}
	}
	return false
}
