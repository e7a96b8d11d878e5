package crd

import (
	"errors"
	"fmt"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
)

// names are what the definitions of a group have been given.
type names struct{ resources, kinds sets.Set[string] }

// taken collects the names in a group, those of one definition aside.
func taken(all []*apiextensionsv1.CustomResourceDefinition, group, but string) names {
	n := names{sets.New[string](), sets.New[string]()}
	for _, c := range all {
		if c.Spec.Group != group || c.Name == but {
			continue
		}
		a := c.Status.AcceptedNames
		n.resources.Insert(a.Plural, a.Singular)
		n.resources.Insert(a.ShortNames...)
		n.kinds.Insert(a.Kind, a.ListKind)
	}
	return n
}

// accept gives a definition the names it asks for, as far as they are free; what
// it has it keeps. The condition says why not all.
func accept(c *apiextensionsv1.CustomResourceDefinition, n names) (apiextensionsv1.CustomResourceDefinitionNames, apiextensionsv1.CustomResourceDefinitionCondition) {
	want, out := c.Spec.Names, c.Status.AcceptedNames
	cond := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found",
	}
	free := func(used sets.Set[string], wanted, has string) error {
		if wanted != has && used.Has(wanted) {
			return fmt.Errorf("%q is already in use", wanted)
		}
		return nil
	}
	refuse := func(reason string, err error) {
		cond.Status, cond.Reason, cond.Message = apiextensionsv1.ConditionFalse, reason, err.Error()
	}
	one := func(used sets.Set[string], wanted string, has *string, reason string) {
		if err := free(used, wanted, *has); err != nil {
			refuse(reason, err)
			return
		}
		*has = wanted
	}
	one(n.resources, want.Plural, &out.Plural, "PluralConflict")
	one(n.resources, want.Singular, &out.Singular, "SingularConflict")
	var errs []error
	for _, s := range want.ShortNames {
		if !slices.Contains(out.ShortNames, s) {
			if err := free(n.resources, s, ""); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		refuse("ShortNamesConflict", errors.New(err.Error()))
	} else {
		out.ShortNames = want.ShortNames
	}
	one(n.kinds, want.Kind, &out.Kind, "KindConflict")
	one(n.kinds, want.ListKind, &out.ListKind, "ListKindConflict")
	out.Categories = want.Categories
	return out, cond
}
