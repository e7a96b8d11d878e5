package core

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/field"
	"sagong/kinds/podspec"
	"sagong/object/equal"
)

var (
	specPath        = field.NewPath("spec")
	annotationsPath = field.NewPath("metadata", "annotations")
)

// updatable lists what an update of a pod may change, in upstream's words.
var updatable = strings.Join([]string{
	"`spec.containers[*].image`", "`spec.initContainers[*].image`", "`spec.activeDeadlineSeconds`",
	"`spec.tolerations` (only additions to existing tolerations)",
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
}, ",")

func validatePod(p *corev1.Pod) field.ErrorList {
	errs := podspec.ValidateAnnotations(p.Annotations, &p.Spec, annotationsPath)
	return append(errs, podspec.Validate(&p.Spec, specPath, podspec.Options{Pod: &p.ObjectMeta})...)
}

func validatePodCreate(p *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return append(errs, podspec.ValidateProfiles(p.Annotations, &p.Spec, specPath)...)
}

// fixedAnnotations refuses changes of annotations that say how a pod began.
func fixedAnnotations(p, old *corev1.Pod) (errs field.ErrorList) {
	if maps.Equal(p.Annotations, old.Annotations) {
		return podspec.ValidateAnnotations(p.Annotations, &p.Spec, annotationsPath)
	}
	what := func(key string) string {
		switch {
		case strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix):
			return "AppArmor annotations"
		case key == corev1.MirrorPodAnnotationKey:
			return "mirror pod annotation"
		}
		return ""
	}
	for _, k := range slices.Sorted(maps.Keys(old.Annotations)) {
		if v, ok := p.Annotations[k]; ok && v == old.Annotations[k] {
			continue
		}
		if w := what(k); w != "" {
			errs = append(errs, field.Forbidden(annotationsPath.Key(k), "may not remove or update "+w))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(p.Annotations)) {
		if _, ok := old.Annotations[k]; ok {
			continue
		}
		if w := what(k); w != "" {
			errs = append(errs, field.Forbidden(annotationsPath.Key(k), "may not add "+w))
		}
	}
	return append(errs, podspec.ValidateAnnotations(p.Annotations, &p.Spec, annotationsPath)...)
}

// annotationsFixed is fixedAnnotations where there is something to check.
func annotationsFixed(p, old *corev1.Pod) field.ErrorList {
	if len(p.Annotations)+len(old.Annotations) == 0 {
		return nil
	}
	return fixedAnnotations(p, old)
}

func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	errs = append(errs, annotationsFixed(p, old)...)
	for _, l := range []struct {
		name     string
		now, was []corev1.Container
	}{{"containers", p.Spec.Containers, old.Spec.Containers}, {"initContainers", p.Spec.InitContainers, old.Spec.InitContainers}} {
		if len(l.now) != len(l.was) {
			return append(errs, field.Forbidden(specPath.Child(l.name), "pod updates may not add or remove containers"))
		}
		// That images are given and have no space around them, validatePod has said.
	}
	path := specPath.Child("activeDeadlineSeconds")
	if n := p.Spec.ActiveDeadlineSeconds; n != nil {
		if *n < 0 || *n > math.MaxInt32 {
			return append(errs, field.Invalid(path, *n, utilvalidation.InclusiveRangeError(0, math.MaxInt32)))
		}
		if o := old.Spec.ActiveDeadlineSeconds; o != nil && *o < *n {
			return append(errs, field.Invalid(path, *n, "must be less than or equal to previous value"))
		}
	} else if old.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Invalid(path, p.Spec.ActiveDeadlineSeconds, "must not update from a positive integer to nil value"))
	}
	errs = append(errs, addedTolerations(p.Spec.Tolerations, old.Spec.Tolerations, specPath.Child("tolerations"))...)
	errs = append(errs, removedGates(p.Spec.SchedulingGates, old.Spec.SchedulingGates, specPath.Child("schedulingGates"))...)
	return append(errs, onlyUpdatable(p, old)...)
}

// onlyUpdatable puts the old values back where changes are allowed, and refuses
// whatever then still differs.
func onlyUpdatable(p, old *corev1.Pod) field.ErrorList {
	if equal.Semantic(&p.Spec, &old.Spec) {
		return nil
	}
	rest := p.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.SchedulingGates = old.Spec.SchedulingGates
	rest.Tolerations = old.Spec.Tolerations
	if o, n := old.Spec.TerminationGracePeriodSeconds, rest.TerminationGracePeriodSeconds; o != nil && *o < 0 && n != nil && *n == 1 {
		rest.TerminationGracePeriodSeconds = o
	}
	var errs field.ErrorList
	// While gates hold a pod back, it may still be narrowed to fewer nodes.
	if len(old.Spec.SchedulingGates) > 0 {
		errs = narrowed(rest, &old.Spec)
	}
	if !equal.Semantic(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, diff.Diff(old.Spec, *rest))))
	}
	return errs
}

// narrowed refuses a wider choice of nodes, and then puts the old one back.
func narrowed(rest, old *corev1.PodSpec) (errs field.ErrorList) {
	for k, v := range old.NodeSelector {
		if got, ok := rest.NodeSelector[k]; !ok || got != v {
			errs = append(errs, field.Invalid(specPath.Child("nodeSelector"), rest.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	rest.NodeSelector = old.NodeSelector
	affinity := func(s *corev1.PodSpec) *corev1.NodeAffinity {
		if s.Affinity == nil {
			return nil
		}
		return s.Affinity.NodeAffinity
	}
	is, was := affinity(rest), affinity(old)
	if equality.Semantic.DeepEqual(is, was) {
		return errs
	}
	errs = append(errs, narrowedAffinity(is, was)...)
	switch {
	case rest.Affinity == nil && was != nil:
		rest.Affinity = &corev1.Affinity{NodeAffinity: was}
	case rest.Affinity != nil && old.Affinity == nil && rest.Affinity.PodAffinity == nil && rest.Affinity.PodAntiAffinity == nil:
		rest.Affinity = nil
	case rest.Affinity != nil:
		rest.Affinity.NodeAffinity = was
	}
	return errs
}

func narrowedAffinity(is, was *corev1.NodeAffinity) (errs field.ErrorList) {
	if was == nil || was.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	old := was.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	var now []corev1.NodeSelectorTerm
	if is != nil && is.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		now = is.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	path := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	if len(old) > 0 && len(old) != len(now) {
		return field.ErrorList{field.Invalid(path, now, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	starts := func(have, want []corev1.NodeSelectorRequirement) bool {
		return len(have) >= len(want) && equality.Semantic.DeepEqual(have[:len(want)], want)
	}
	for i, o := range old {
		n := now[i]
		// A term with nothing in it matches no node, and would match some.
		empty := len(o.MatchExpressions)+len(o.MatchFields) == 0 && len(n.MatchExpressions)+len(n.MatchFields) > 0
		if empty || len(o.MatchExpressions) > 0 && !starts(n.MatchExpressions, o.MatchExpressions) || len(o.MatchFields) > 0 && !starts(n.MatchFields, o.MatchFields) {
			errs = append(errs, field.Invalid(path.Index(i), n, "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

// addedTolerations demands that all old tolerations are still there; their
// seconds may change.
func addedTolerations(now, was []corev1.Toleration, path *field.Path) field.ErrorList {
	for _, o := range was {
		if !slices.ContainsFunc(now, func(n corev1.Toleration) bool {
			n.TolerationSeconds = o.TolerationSeconds
			return n == o
		}) {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil // the tolerations themselves validatePod has checked
}

func removedGates(now, was []corev1.PodSchedulingGate, path *field.Path) (errs field.ErrorList) {
	for i, g := range now {
		if !slices.Contains(was, g) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name)))
		}
	}
	return errs
}

// ValidateEphemeralContainersUpdate checks a write to pods/ephemeralcontainers,
// which may only add.
func ValidateEphemeralContainersUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	errs = append(errs, annotationsFixed(p, old)...)
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	path := specPath.Child("ephemeralContainers")
	for _, o := range old.Spec.EphemeralContainers {
		i := slices.IndexFunc(p.Spec.EphemeralContainers, func(n corev1.EphemeralContainer) bool { return n.Name == o.Name })
		if i < 0 {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", o.Name)))
		} else if !equality.Semantic.DeepEqual(p.Spec.EphemeralContainers[i], o) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", o.Name, diff.Diff(o, p.Spec.EphemeralContainers[i]))))
		}
	}
	return errs
}

func podWarnings(p, old *corev1.Pod) []string {
	if old != nil && equal.Semantic(&p.Spec, &old.Spec) {
		return nil
	}
	var out []string
	if old == nil {
		out = podspec.NameWarnings(p.Name, "the Pod's hostname")
	}
	return append(out, podspec.Warnings(p.Annotations, &p.Spec, field.NewPath("metadata"), specPath)...)
}
