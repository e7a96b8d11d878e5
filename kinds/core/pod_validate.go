package core

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
	"sagong/object/equal"
)

var specPath = field.NewPath("spec")

// updatable lists what an update of a pod may change, in upstream's words.
var updatable = strings.Join([]string{
	"`spec.containers[*].image`", "`spec.initContainers[*].image`", "`spec.activeDeadlineSeconds`",
	"`spec.tolerations` (only additions to existing tolerations)",
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
}, ",")

func validatePod(p *corev1.Pod) field.ErrorList {
	errs := podspec.Validate(&p.Spec, specPath, podspec.Options{Pod: true})
	errs = append(errs, podspec.ValidateClaimNames(p, specPath)...)
	return append(errs, validateStatusIPs(&p.Status)...)
}

func validatePodCreate(p *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

func validatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	if len(p.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(specPath.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(specPath.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	for _, l := range []struct {
		name string
		list []corev1.Container
	}{{"containers", p.Spec.Containers}, {"initContainers", p.Spec.InitContainers}} {
		for i := range l.list {
			if l.list[i].Image == "" {
				errs = append(errs, field.Required(specPath.Child(l.name).Index(i).Child("image"), ""))
			}
		}
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
	if len(errs) > 0 {
		return errs
	}
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
		if errs = narrowedSelector(rest, &old.Spec); len(errs) > 0 {
			return errs
		}
	}
	if !equal.Semantic(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, diff.Diff(*rest, old.Spec))))
	}
	return errs
}

func narrowedSelector(rest, old *corev1.PodSpec) (errs field.ErrorList) {
	for k, v := range old.NodeSelector {
		if rest.NodeSelector[k] != v {
			errs = append(errs, field.Invalid(specPath.Child("nodeSelector"), rest.NodeSelector, "only additions are allowed (no mutations or deletions)"))
			break
		}
	}
	rest.NodeSelector = old.NodeSelector
	if rest.Affinity == nil && old.Affinity != nil {
		return append(errs, field.Invalid(specPath.Child("affinity"), nil, "field is immutable"))
	}
	if rest.Affinity == nil || rest.Affinity.NodeAffinity == nil {
		return errs
	}
	var was *corev1.NodeSelector
	if old.Affinity != nil && old.Affinity.NodeAffinity != nil {
		was = old.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	is := rest.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	path := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	if was != nil {
		if is == nil || len(is.NodeSelectorTerms) != len(was.NodeSelectorTerms) {
			var terms any
			if is != nil {
				terms = is.NodeSelectorTerms
			}
			return append(errs, field.Invalid(path, terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
		}
		for i := range was.NodeSelectorTerms {
			o, n := was.NodeSelectorTerms[i], is.NodeSelectorTerms[i]
			prefix := func(have, want []corev1.NodeSelectorRequirement) bool {
				return len(have) >= len(want) && equality.Semantic.DeepEqual(have[:len(want)], want)
			}
			if len(o.MatchExpressions)+len(o.MatchFields) > 0 && (!prefix(n.MatchExpressions, o.MatchExpressions) || !prefix(n.MatchFields, o.MatchFields)) {
				errs = append(errs, field.Invalid(path.Index(i), n, "only additions are allowed (no mutations or deletions)"))
			}
		}
	}
	// What is left of the affinity must be the same: compare it without.
	switch {
	case old.Affinity == nil && rest.Affinity.PodAffinity == nil && rest.Affinity.PodAntiAffinity == nil:
		rest.Affinity = nil
	case old.Affinity != nil:
		rest.Affinity.NodeAffinity = old.Affinity.NodeAffinity
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
	return nil
}

func removedGates(now, was []corev1.PodSchedulingGate, path *field.Path) (errs field.ErrorList) {
	for i, g := range now {
		if !slices.Contains(was, g) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name)))
		}
	}
	return errs
}

func validateStatusIPs(s *corev1.PodStatus) (errs field.ErrorList) {
	path := field.NewPath("status")
	for i, ip := range s.PodIPs {
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Child("podIPs").Index(i), ip.IP, true, nil)...)
	}
	for i, ip := range s.HostIPs {
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Child("hostIPs").Index(i), ip.IP, true, nil)...)
	}
	if len(s.PodIPs) > 2 {
		errs = append(errs, field.Invalid(path.Child("podIPs"), s.PodIPs, "may specify no more than one IP for each IP family"))
	}
	if len(s.PodIPs) == 2 && strings.Contains(s.PodIPs[0].IP, ":") == strings.Contains(s.PodIPs[1].IP, ":") {
		errs = append(errs, field.Invalid(path.Child("podIPs"), s.PodIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

func validatePodStatus(p, old *corev1.Pod) (errs field.ErrorList) {
	path := field.NewPath("status")
	if name := p.Status.NominatedNodeName; name != "" && name != old.Status.NominatedNodeName {
		errs = append(errs, check.Name(path.Child("nominatedNodeName"), name, validation.NameIsDNSSubdomain)...)
	}
	for i, c := range p.Status.Conditions {
		if c.Type == "" {
			errs = append(errs, field.Required(path.Child("conditions").Index(i).Child("type"), ""))
		}
	}
	errs = append(errs, validateStatusIPs(&p.Status)...)
	errs = append(errs, validateClaimStatuses(p, path.Child("resourceClaimStatuses"))...)
	errs = append(errs, validateExtendedClaim(p, path.Child("extendedResourceClaimStatus"))...)
	for _, l := range []struct {
		name     string
		now, was []corev1.ContainerStatus
		specs    []corev1.Container
	}{
		{"containerStatuses", p.Status.ContainerStatuses, old.Status.ContainerStatuses, old.Spec.Containers},
		{"initContainerStatuses", p.Status.InitContainerStatuses, old.Status.InitContainerStatuses, old.Spec.InitContainers},
	} {
		errs = append(errs, stayTerminated(l.now, l.was, l.specs, old.Spec.RestartPolicy, path.Child(l.name))...)
		errs = append(errs, validateHealth(l.now, l.specs, p.Status.ExtendedResourceClaimStatus, path.Child(l.name))...)
	}
	return errs
}

// stayTerminated refuses that a container which is never restarted comes back
// from the dead.
func stayTerminated(now, was []corev1.ContainerStatus, specs []corev1.Container, policy corev1.RestartPolicy, path *field.Path) (errs field.ErrorList) {
	for i, n := range now {
		for _, o := range was {
			if o.Name != n.Name || o.State.Terminated == nil || n.State.Terminated != nil {
				continue
			}
			effective := policy
			ruled := false
			for j := range specs {
				if specs[j].Name == n.Name {
					if r := specs[j].RestartPolicy; r != nil {
						effective = corev1.RestartPolicy(*r)
					}
					ruled = len(specs[j].RestartPolicyRules) > 0
				}
			}
			if ruled || effective == corev1.RestartPolicyAlways || effective == corev1.RestartPolicyOnFailure && o.State.Terminated.ExitCode != 0 {
				continue
			}
			errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
		}
	}
	return errs
}

// ValidateEphemeralContainersUpdate checks a write to pods/ephemeralcontainers,
// which may only add.
func ValidateEphemeralContainersUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
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

// ValidatePodResize checks a write to pods/resize, which may only change the
// cpu and memory of containers and of the pod.
func ValidatePodResize(p, old *corev1.Pod) field.ErrorList {
	errs := validatePod(p)
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return append(errs, field.Forbidden(specPath, "windows pods cannot be resized"))
	}
	if len(p.Spec.Containers) != len(old.Spec.Containers) || len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(specPath, "containers may not be added or removed on resize"))
	}
	if q := podspec.QOS(&p.Spec); old.Status.QOSClass != "" && q != old.Status.QOSClass {
		errs = append(errs, field.Invalid(specPath, q, "Pod QOS Class may not change as a result of resizing"))
	}
	rest := p.Spec.DeepCopy()
	restore := func(now, was *corev1.ResourceRequirements, path *field.Path) {
		for _, l := range []struct {
			name     string
			now, was corev1.ResourceList
		}{{"limits", now.Limits, was.Limits}, {"requests", now.Requests, was.Requests}} {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				q, had := l.was[name]
				if _, has := l.now[name]; had && !has {
					errs = append(errs, field.Forbidden(path.Child(l.name), "resource "+l.name+" cannot be removed"))
				}
				switch {
				case had:
					if l.now == nil {
						continue
					}
					l.now[name] = q
				default:
					delete(l.now, name)
				}
			}
		}
		if len(now.Limits) == 0 {
			now.Limits = was.Limits
		}
		if len(now.Requests) == 0 {
			now.Requests = was.Requests
		}
	}
	for i := range rest.Containers {
		restore(&rest.Containers[i].Resources, &old.Spec.Containers[i].Resources, specPath.Child("containers").Index(i).Child("resources"))
	}
	for i := range rest.InitContainers {
		restore(&rest.InitContainers[i].Resources, &old.Spec.InitContainers[i].Resources, specPath.Child("initContainers").Index(i).Child("resources"))
	}
	if rest.Resources != nil && old.Spec.Resources != nil {
		restore(rest.Resources, old.Spec.Resources, specPath.Child("resources"))
	}
	if len(errs) == 0 && !equal.Semantic(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("only cpu and memory resources are mutable\n%v", diff.Diff(*rest, old.Spec))))
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
