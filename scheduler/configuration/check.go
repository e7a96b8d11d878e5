package configuration

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	configv1 "k8s.io/kube-scheduler/config/v1"
)

func checkPreemption(path *field.Path, a *configv1.DefaultPreemptionArgs) (errs field.ErrorList) {
	percentage, absolute := path.Child("minCandidateNodesPercentage"), path.Child("minCandidateNodesAbsolute")
	if n := *a.MinCandidateNodesPercentage; n < 0 || n > 100 {
		errs = append(errs, field.Invalid(percentage, n, "not in valid range [0, 100]"))
	}
	if n := *a.MinCandidateNodesAbsolute; n < 0 {
		errs = append(errs, field.Invalid(absolute, n, "not in valid range [0, inf)"))
	}
	if *a.MinCandidateNodesPercentage == 0 && *a.MinCandidateNodesAbsolute == 0 {
		errs = append(errs, field.Invalid(percentage, 0, "cannot be zero at the same time as minCandidateNodesAbsolute"),
			field.Invalid(absolute, 0, "cannot be zero at the same time as minCandidateNodesPercentage"))
	}
	return errs
}

func checkAffinity(path *field.Path, a *configv1.InterPodAffinityArgs) field.ErrorList {
	if w := *a.HardPodAffinityWeight; w < 0 || w > 100 {
		return field.ErrorList{field.Invalid(path.Child("hardPodAffinityWeight"), w, "not in valid range [0, 100]")}
	}
	return nil
}

func checkSpread(path *field.Path, a *configv1.PodTopologySpreadArgs) (errs field.ErrorList) {
	switch p := path.Child("defaultingType"); {
	case a.DefaultingType != configv1.SystemDefaulting && a.DefaultingType != configv1.ListDefaulting:
		errs = append(errs, field.NotSupported(p, a.DefaultingType, []configv1.PodTopologySpreadConstraintsDefaulting{configv1.SystemDefaulting, configv1.ListDefaulting}))
	case a.DefaultingType == configv1.SystemDefaulting && len(a.DefaultConstraints) > 0:
		errs = append(errs, field.Invalid(p, a.DefaultingType, "when .defaultConstraints are not empty"))
	}
	list := path.Child("defaultConstraints")
	for i := range a.DefaultConstraints {
		errs = append(errs, checkConstraint(list, a.DefaultConstraints, i)...)
	}
	return errs
}

func checkConstraint(list *field.Path, all []corev1.TopologySpreadConstraint, i int) (errs field.ErrorList) {
	c, p := &all[i], list.Index(i)
	if c.MaxSkew <= 0 {
		errs = append(errs, field.Invalid(p.Child("maxSkew"), c.MaxSkew, "not in valid range (0, inf)"))
	}
	if c.TopologyKey == "" {
		errs = append(errs, field.Required(p.Child("topologyKey"), "can not be empty"))
	} else {
		errs = append(errs, metav1validation.ValidateLabelName(c.TopologyKey, p.Child("topologyKey"))...)
	}
	switch w := p.Child("whenUnsatisfiable"); c.WhenUnsatisfiable {
	case corev1.DoNotSchedule, corev1.ScheduleAnyway:
	case "":
		errs = append(errs, field.Required(w, "can not be empty"))
	default:
		errs = append(errs, field.NotSupported(w, c.WhenUnsatisfiable, []corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}))
	}
	if c.LabelSelector != nil {
		errs = append(errs, field.Forbidden(p.Child("labelSelector"), "constraint must not define a selector, as they deduced for each pod"))
	}
	for k := range all[:i] {
		if all[k].TopologyKey == c.TopologyKey && all[k].WhenUnsatisfiable == c.WhenUnsatisfiable {
			return append(errs, field.Duplicate(p, fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable)))
		}
	}
	return errs
}

func checkBalanced(path *field.Path, a *configv1.NodeResourcesBalancedAllocationArgs) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, r := range a.Resources {
		p := path.Child("resources").Index(i)
		if seen[r.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), r.Name))
		}
		seen[r.Name] = true
		if r.Weight != 1 {
			errs = append(errs, field.Invalid(p.Child("weight"), r.Weight, "must be 1"))
		}
	}
	return errs
}

func checkNodeAffinity(path *field.Path, a *configv1.NodeAffinityArgs) (errs field.ErrorList) {
	if a.AddedAffinity == nil {
		return nil
	}
	path = path.Child("addedAffinity")
	note := func(p *field.Path, err error) {
		if err == nil {
			return
		}
		list := []error{err}
		if many, ok := err.(utilerrors.Aggregate); ok {
			list = many.Errors()
		}
		for _, err := range list {
			if f, ok := err.(*field.Error); ok {
				errs = append(errs, f)
			} else {
				errs = append(errs, field.Invalid(p, "", err.Error()))
			}
		}
	}
	if r := a.AddedAffinity.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		p := path.Child("requiredDuringSchedulingIgnoredDuringExecution")
		_, err := nodeaffinity.NewNodeSelector(r, field.WithPath(p))
		note(p, err)
	}
	if terms := a.AddedAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
		p := path.Child("preferredDuringSchedulingIgnoredDuringExecution")
		_, err := nodeaffinity.NewPreferredSchedulingTerms(terms, field.WithPath(p))
		note(p, err)
	}
	return errs
}

func checkDevices(path *field.Path, a *configv1.DynamicResourcesArgs) (errs field.ErrorList) {
	if d := a.FilterTimeout.Duration; d < 0 {
		errs = append(errs, field.Invalid(path.Child("filterTimeout"), d, "must be zero or positive"))
	}
	if d := a.BindingTimeout.Duration; d < time.Second {
		errs = append(errs, field.Invalid(path.Child("bindingTimeout"), d, "must be at least 1 second"))
	}
	return errs
}

func checkVolumeBinding(path *field.Path, a *configv1.VolumeBindingArgs) (errs field.ErrorList) {
	if *a.BindTimeoutSeconds < 0 {
		errs = append(errs, field.Invalid(path.Child("bindTimeoutSeconds"), *a.BindTimeoutSeconds, "invalid BindTimeoutSeconds, should not be a negative value"))
	}
	if *a.BindTimeoutSeconds > longest {
		errs = append(errs, field.Invalid(path.Child("bindTimeoutSeconds"), *a.BindTimeoutSeconds, fmt.Sprintf("must be %d at most", longest)))
	}
	return append(errs, checkShape(path.Child("shape"), a.Shape)...)
}

func checkFit(path *field.Path, a *configv1.NodeResourcesFitArgs) (errs field.ErrorList) {
	for i, name := range a.IgnoredResources {
		errs = append(errs, metav1validation.ValidateLabelName(name, path.Child("ignoredResources").Index(i))...)
	}
	for i, group := range a.IgnoredResourceGroups {
		p := path.Child("ignoredResourceGroups").Index(i)
		if strings.Contains(group, "/") {
			errs = append(errs, field.Invalid(p, group, "resource group name can't contain '/'"))
		}
		errs = append(errs, metav1validation.ValidateLabelName(group, p)...)
	}
	s, p := a.ScoringStrategy, path.Child("scoringStrategy")
	switch s.Type {
	case configv1.LeastAllocated, configv1.MostAllocated, configv1.RequestedToCapacityRatio:
	default:
		errs = append(errs, field.NotSupported(p.Child("type"), s.Type, []configv1.ScoringStrategyType{configv1.LeastAllocated, configv1.MostAllocated, configv1.RequestedToCapacityRatio}))
	}
	for i, r := range s.Resources {
		if r.Weight <= 0 || r.Weight > 100 {
			errs = append(errs, field.Invalid(p.Child("resources").Index(i).Child("weight"), r.Weight, fmt.Sprintf("resource weight of %v not in valid range (0, 100]", r.Name)))
		}
	}
	ratio := p.Child("requestedToCapacityRatio")
	switch {
	case s.Type != configv1.RequestedToCapacityRatio && s.RequestedToCapacityRatio != nil:
		errs = append(errs, field.Forbidden(ratio, "must be nil when type is not RequestedToCapacityRatio"))
	case s.Type == configv1.RequestedToCapacityRatio && s.RequestedToCapacityRatio == nil:
		errs = append(errs, field.Required(ratio, "must be specified when type is RequestedToCapacityRatio"))
	case s.Type == configv1.RequestedToCapacityRatio:
		errs = append(errs, checkShape(ratio.Child("shape"), s.RequestedToCapacityRatio.Shape)...)
	}
	return errs
}

func checkShape(path *field.Path, shape []configv1.UtilizationShapePoint) (errs field.ErrorList) {
	if len(shape) == 0 {
		return field.ErrorList{field.Required(path, "at least one point must be specified")}
	}
	for i := 1; i < len(shape); i++ {
		if shape[i-1].Utilization >= shape[i].Utilization {
			errs = append(errs, field.Invalid(path.Index(i).Child("utilization"), shape[i].Utilization, "values must be sorted in increasing order"))
			break
		}
	}
	for i, x := range shape {
		if x.Utilization < 0 || x.Utilization > 100 {
			errs = append(errs, field.Invalid(path.Index(i).Child("utilization"), x.Utilization, "not in valid range [0, 100]"))
		}
		if x.Score < 0 || x.Score > 10 {
			errs = append(errs, field.Invalid(path.Index(i).Child("score"), x.Score, "not in valid range [0, 10]"))
		}
	}
	return errs
}
