package admission

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/apiserver/resource"
	"sagong/object"
)

// refuse is forbidden with a cause that is an error already. An object without a
// name of its own yet goes by the name it is generated from, as upstream has it.
func refuse(a *resource.Attributes, cause error) error {
	name := a.Name
	if o, ok := a.Object.(object.Object); ok && name == "" {
		if name = o.GetName(); name == "" {
			name = o.GetGenerateName()
		}
	}
	if name == "" {
		name = "Unknown"
	}
	return apierrors.NewForbidden(a.Definition.GR(), name, cause)
}
