package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/resource"
)

// NotYet is honest about kinds that nothing acts on: those that would make
// people believe that they are protected are refused, the others are stored
// with a warning. Each stands in docs/status.md; it leaves this list when
// something acts on it.
type NotYet struct{}

// Name implements Plugin.
func (NotYet) Name() string { return "NotYet" }

// refusedGroups promise to check or to protect requests.
var refusedGroups = map[string]string{
	"internal.apiserver.k8s.io": "this version has one server",
}

// storedKinds are kept, so that manifests apply as a whole.
var storedKinds = map[schema.GroupResource]string{
	{Group: "storage.k8s.io", Resource: "volumeattachments"}:  "volume attachments are stored but nothing attaches volumes yet",
	{Group: "networking.k8s.io", Resource: "networkpolicies"}: "network policies are stored but NOT ENFORCED yet: traffic is not restricted",
	{Group: "networking.k8s.io", Resource: "ingresses"}:       "ingresses are stored but not served yet: use a Service of type NodePort",
}

// Admit implements Mutator, to speak before anything else does.
func (NotYet) Admit(_ context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || a.Subresource != "" {
		return nil
	}
	if why, ok := refusedGroups[a.Definition.Group]; ok {
		return forbidden(a, "%s; see docs/status.md", why)
	}
	if why, ok := storedKinds[a.Definition.GR()]; ok && a.Warn != nil {
		a.Warn(why)
	}
	return nil
}
