package core

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

func validateNode(n *corev1.Node) field.ErrorList {
	errs := validateNodeAnnotations(n.Annotations)
	errs = append(errs, validateTaints(n.Spec.Taints, taintsPath)...)
	errs = append(errs, validateNodeResources(n)...)
	if swap := n.Status.NodeInfo.Swap; swap != nil && swap.Capacity != nil && *swap.Capacity <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "nodeSwapStatus", "capacity"), *swap.Capacity, "must be greater than zero"))
	}
	errs = append(errs, validateDeclaredFeatures(n.Status.DeclaredFeatures)...)
	p := specPath.Child("podCIDRs")
	for i, cidr := range n.Spec.PodCIDRs {
		errs = append(errs, utilvalidation.IsValidCIDRForLegacyField(p.Index(i).Upstream(), cidr, true, nil)...)
	}
	if len(n.Spec.PodCIDRs) > 1 {
		dual, err := netutils.IsDualStackCIDRStrings(n.Spec.PodCIDRs)
		if err != nil {
			errs = append(errs, field.InternalError(p, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%v", err)))
		}
		if !dual || len(n.Spec.PodCIDRs) > 2 {
			errs = append(errs, field.Invalid(p, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family"))
		}
	}
	if n.Spec.PodPreemptionPolicy != nil { // InPlacePodVerticalScalingSchedulerPreemption, which is off
		errs = append(errs, field.Forbidden(specPath.Child("podPreemptionPolicy"), ""))
	}
	return errs
}

// taintsPath is where upstream says taints are.
var taintsPath = field.NewPath("metadata", "taints")

func validateTaints(taints []corev1.Taint, path *field.Path) (errs field.ErrorList) {
	for i, taint := range taints {
		p := path.Index(i)
		errs = append(errs, check.LabelName(p.Child("key"), taint.Key)...)
		if msgs := utilvalidation.IsValidLabelValue(taint.Value); len(msgs) > 0 {
			errs = append(errs, field.Invalid(p.Child("value"), taint.Value, strings.Join(msgs, ";")))
		}
		errs = append(errs, podspec.ValidateTaintEffect(taint.Effect, p.Child("effect"))...)
		if slices.ContainsFunc(taints[:i], func(o corev1.Taint) bool { return o.Key == taint.Key && o.Effect == taint.Effect }) {
			d := field.Duplicate(p, taint)
			d.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, d)
		}
	}
	return errs
}

// validateNodeAnnotations checks what nodes once said by annotations.
func validateNodeAnnotations(all map[string]string) (errs field.ErrorList) {
	if v := all[corev1.TaintsAnnotationKey]; v != "" {
		var taints []corev1.Taint
		if err := json.Unmarshal([]byte(v), &taints); err != nil {
			errs = append(errs, field.Invalid(annotationsPath, corev1.TaintsAnnotationKey, err.Error()))
		} else {
			errs = append(errs, validateTaints(taints, annotationsPath.Child(corev1.TaintsAnnotationKey))...)
		}
	}
	if v := all[corev1.PreferAvoidPodsAnnotationKey]; v != "" {
		var avoid corev1.AvoidPods
		if err := json.Unmarshal([]byte(v), &avoid); err != nil {
			return append(errs, field.Invalid(annotationsPath.Child("AvoidPods"), corev1.PreferAvoidPodsAnnotationKey, err.Error()))
		}
		for i, a := range avoid.PreferAvoidPods {
			p := annotationsPath.Child(corev1.PreferAvoidPodsAnnotationKey).Index(i).Child("PodSignature")
			switch c := a.PodSignature.PodController; {
			case c == nil:
				errs = append(errs, field.Required(p, ""))
			case c.Controller == nil || !*c.Controller:
				errs = append(errs, field.Invalid(p.Child("PodController", "Controller"), false, "must point to a controller"))
			}
		}
	}
	return errs
}

var featureName = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*$`)

// validateDeclaredFeatures wants names in order: whoever looks features up
// relies on it.
func validateDeclaredFeatures(all []string) (errs field.ErrorList) {
	list := field.NewPath("status", "declaredFeatures")
	for i, name := range all {
		p := list.Index(i)
		switch {
		case len(name) > utilvalidation.DNS1123SubdomainMaxLength:
			errs = append(errs, field.Invalid(p, name, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", name, utilvalidation.DNS1123SubdomainMaxLength)))
		case !featureName.MatchString(name):
			errs = append(errs, field.Invalid(p, name, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", name)))
		}
		if i+1 == len(all) {
			break
		}
		switch next := all[i+1]; {
		case name == next:
			errs = append(errs, field.Duplicate(list.Index(i+1), next))
		case name > next:
			errs = append(errs, field.Invalid(list.Index(i+1), next, "list must be sorted alphabetically"))
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
			errs = append(errs, podspec.ValidateQuantity(string(name), l.list[name], field.NewPath("status", l.name, string(name)))...)
		}
	}
	return errs
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	return append(validateNode(n), validateNodeStatus(n, old)...)
}

// validateNodeStatus checks a change of a node, of its status or of the rest.
func validateNodeStatus(n, old *corev1.Node) field.ErrorList {
	errs := validateNodeAnnotations(n.Annotations)
	errs = append(errs, validateNodeResources(n)...)
	errs = append(errs, validateDeclaredFeatures(n.Status.DeclaredFeatures)...)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), a))
		}
		seen[a] = true
	}
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(old.Spec.PodCIDRs, n.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(specPath.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
	}
	if old.Spec.ProviderID != "" && old.Spec.ProviderID != n.Spec.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"), `node updates may not change providerID except from "" to valid`))
	}
	if n.Spec.ConfigSource != nil {
		errs = append(errs, validateConfigSource(n.Spec.ConfigSource, false, specPath.Child("configSource"))...)
	}
	if c := n.Status.Config; c != nil {
		p := field.NewPath("status", "config")
		for _, s := range []struct {
			name   string
			source *corev1.NodeConfigSource
		}{{"assigned", c.Assigned}, {"active", c.Active}, {"lastKnownGood", c.LastKnownGood}} {
			if s.source != nil {
				errs = append(errs, validateConfigSource(s.source, true, p.Child(s.name))...)
			}
		}
	}
	errs = append(errs, validateTaints(n.Spec.Taints, taintsPath)...)
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(specPath.Child("externalID"), "may not be updated"))
	}
	return errs
}

// validateConfigSource checks what a kubelet once had its configuration from: in
// the status with the version of it.
func validateConfigSource(s *corev1.NodeConfigSource, status bool, path *field.Path) (errs field.ErrorList) {
	c := s.ConfigMap
	if c == nil {
		return field.ErrorList{field.Invalid(path, s, "exactly one reference subfield must be non-nil")}
	}
	path = path.Child("configMap")
	for _, f := range []struct{ name, value string }{{"uid", string(c.UID)}, {"resourceVersion", c.ResourceVersion}} {
		switch {
		case status && f.value == "":
			errs = append(errs, field.Required(path.Child(f.name), ""))
		case !status && f.value != "":
			errs = append(errs, field.Forbidden(path.Child(f.name), f.name+" must not be set in spec"))
		}
	}
	errs = append(errs, check.RequiredName(path.Child("namespace"), c.Namespace, check.IsDNS1123Label)...)
	errs = append(errs, check.RequiredName(path.Child("name"), c.Name, utilvalidation.IsDNS1123Subdomain)...)
	return append(errs, check.RequiredName(path.Child("kubeletConfigKey"), c.KubeletConfigKey, utilvalidation.IsConfigMapKey)...)
}
