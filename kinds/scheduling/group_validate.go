package scheduling

import (
	"context"
	"slices"

	schedulingv1alpha3 "k8s.io/api/scheduling/v1alpha3"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/operation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"

	"sagong/kinds/field"
)

// The rules are upstream's: those that it generates from its types are part of
// k8s.io/api for v1alpha3 alone, whose types are those of v1beta1 field by
// field. What those leave to code is here.

var (
	create = operation.Operation{Type: operation.Create, Options: off}
	update = operation.Operation{Type: operation.Update, Options: off}
	// off names what the generated rules ask about and what is not served.
	off = map[string]bool{
		"CompositePodGroup": false, "TopologyAwareWorkloadScheduling": false, "DRAWorkloadResourceClaims": false, "PodGroupPreemptionPolicy": false,
	}
)

// like reads one version's object as another's whose encoding is the same.
func like[To any, P interface {
	*To
	Unmarshal([]byte) error
}](from interface{ Marshal() ([]byte, error) }) P {
	to := P(new(To))
	b, err := from.Marshal()
	if err == nil {
		err = to.Unmarshal(b)
	}
	if err != nil {
		panic(err) // plain data in memory cannot fail to encode
	}
	return to
}

// enforced leaves out the generated rules that upstream only tries out.
func enforced(errs field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(errs, (*field.Error).IsAlpha)
}

func validateWorkload(w *schedulingv1beta1.Workload) field.ErrorList {
	return validateWorkloadSpec(create, &w.Spec, nil)
}

func validateWorkloadUpdate(w, old *schedulingv1beta1.Workload) field.ErrorList {
	return validateWorkloadSpec(update, &w.Spec, like[schedulingv1alpha3.WorkloadSpec](&old.Spec))
}

func validateWorkloadSpec(op operation.Operation, spec *schedulingv1beta1.WorkloadSpec, old *schedulingv1alpha3.WorkloadSpec) field.ErrorList {
	p := field.NewPath("spec")
	errs := enforced(schedulingv1alpha3.Validate_WorkloadSpec(context.Background(), op, p.Upstream(), like[schedulingv1alpha3.WorkloadSpec](spec), old))
	// All groups of a workload stand and fall with one priority.
	for i := range spec.PodGroupTemplates {
		a, b := &spec.PodGroupTemplates[0], &spec.PodGroupTemplates[i]
		if a.PriorityClassName != b.PriorityClassName || (a.Priority == nil) != (b.Priority == nil) || a.Priority != nil && *a.Priority != *b.Priority {
			return append(errs, field.Invalid(p, nil, "detected multiple priority configurations"))
		}
	}
	return errs
}

func validateGroup(g *schedulingv1beta1.PodGroup) field.ErrorList {
	return validateGroupSpec(create, &g.Spec, nil)
}

func validateGroupUpdate(g, old *schedulingv1beta1.PodGroup) field.ErrorList {
	return validateGroupSpec(update, &g.Spec, like[schedulingv1alpha3.PodGroupSpec](&old.Spec))
}

func validateGroupSpec(op operation.Operation, spec *schedulingv1beta1.PodGroupSpec, old *schedulingv1alpha3.PodGroupSpec) field.ErrorList {
	return enforced(schedulingv1alpha3.Validate_PodGroupSpec(context.Background(), op, field.NewPath("spec").Upstream(), like[schedulingv1alpha3.PodGroupSpec](spec), old))
}

func validateGroupStatus(g, _ *schedulingv1beta1.PodGroup) field.ErrorList {
	return metav1validation.ValidateConditions(g.Status.Conditions, field.NewPath("status", "conditions").Upstream())
}
