package core

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
)

func validateNode(n *corev1.Node) (errs field.ErrorList) {
	for i, taint := range n.Spec.Taints {
		p := specPath.Child("taints").Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(taint.Key, p.Child("key"))...)
		errs = append(errs, check.Rule(p.Child("value"), taint.Value, utilvalidation.IsValidLabelValue)...)
		errs = append(errs, podspec.ValidateTaintEffect(taint.Effect, p.Child("effect"))...)
		for _, other := range n.Spec.Taints[:i] {
			if other.Key == taint.Key && other.Effect == taint.Effect {
				d := field.Duplicate(p, taint)
				d.Detail = "taints must be unique by key and effect pair"
				errs = append(errs, d)
				break
			}
		}
	}
	p := specPath.Child("podCIDRs")
	for i, cidr := range n.Spec.PodCIDRs {
		errs = append(errs, utilvalidation.IsValidCIDRForLegacyField(p.Index(i), cidr, false, nil)...)
	}
	if len(n.Spec.PodCIDRs) > 2 {
		errs = append(errs, field.Invalid(p, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
	}
	if n.Spec.PodPreemptionPolicy != nil { // InPlacePodVerticalScalingSchedulerPreemption, which is off
		errs = append(errs, field.Forbidden(specPath.Child("podPreemptionPolicy"), ""))
	}
	errs = append(errs, validateNodeResources(n)...)
	return append(errs, validateDeclaredFeatures(n.Status.DeclaredFeatures)...)
}

var featureName = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*$`)

// validateDeclaredFeatures wants names in order: whoever looks features up
// relies on it.
func validateDeclaredFeatures(all []string) (errs field.ErrorList) {
	list := field.NewPath("status", "declaredFeatures")
	for i, name := range all {
		p := list.Index(i)
		switch {
		case i == 0:
		case name == all[i-1]:
			errs = append(errs, field.Duplicate(p, name))
		case name < all[i-1]:
			errs = append(errs, field.Invalid(p, name, "list must be sorted alphabetically"))
		}
		switch {
		case len(name) > utilvalidation.DNS1123SubdomainMaxLength:
			errs = append(errs, field.Invalid(p, name, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", name, utilvalidation.DNS1123SubdomainMaxLength)))
		case !featureName.MatchString(name):
			errs = append(errs, field.Invalid(p, name, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", name)))
		}
	}
	return errs
}

func validateNodeResources(n *corev1.Node) (errs field.ErrorList) {
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for _, name := range slices.Sorted(maps.Keys(l.list)) {
			errs = append(errs, podspec.ValidateQuantity(string(name), l.list[name], field.NewPath("status", l.name).Key(string(name)))...)
		}
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	errs := validateNode(n)
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(specPath.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"), `node updates may not change providerID except from "" to valid`))
	}
	return errs
}

func validateNodeStatus(n, _ *corev1.Node) (errs field.ErrorList) {
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		seen[a] = true
	}
	errs = append(errs, validateDeclaredFeatures(n.Status.DeclaredFeatures)...)
	return append(errs, validateNodeResources(n)...)
}
