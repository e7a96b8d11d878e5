package resource

import (
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Forbidden is the error for a request that authorization refused, in upstream's
// words.
func Forbidden(u user.Info, t Target, verb, reason string) error {
	return ForbiddenResource(u, schema.GroupResource{Group: t.Group, Resource: t.Resource}, t.Namespace, t.Name, t.Subresource, verb, reason)
}

// ForbiddenResource is Forbidden for what may not be a known resource.
func ForbiddenResource(u user.Info, gr schema.GroupResource, namespace, name, subresource, verb, reason string) error {
	who := ""
	if u != nil {
		who = u.GetName()
	}
	resource := gr.Resource
	if subresource != "" {
		resource += "/" + subresource
	}
	var b strings.Builder
	fmt.Fprintf(&b, "User %q cannot %s resource %q in API group %q", who, verb, resource, gr.Group)
	if namespace != "" {
		fmt.Fprintf(&b, " in the namespace %q", namespace)
	} else {
		b.WriteString(" at the cluster scope")
	}
	if reason != "" {
		fmt.Fprintf(&b, ": %s", reason)
	}
	return apierrors.NewForbidden(gr, name, errors.New(b.String()))
}
