package apps

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"

	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

var (
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

// validateSelected checks a selector and the template whose pods it must
// select; no selector selects none. Pods of all workloads here are restarted for
// ever.
func validateSelected(selector *metav1.LabelSelector, t *corev1.PodTemplateSpec, kind string) (errs field.ErrorList) {
	p, path := specPath.Child("selector"), specPath.Child("template")
	if selector == nil && kind != "daemonset" {
		errs = append(errs, field.Required(p, ""))
	} else if selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, p.Upstream())...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(p, selector, "empty selector is invalid for "+kind))
		}
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case err == nil:
		if !s.Empty() && !s.Matches(labels.Set(t.Labels)) {
			errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
		}
	case kind == "statefulset":
		return append(append(errs, field.Invalid(p, selector, "")), validateForever(&t.Spec, path, kind)...)
	case kind != "daemonset":
		return append(errs, field.Invalid(p, selector, "invalid label selector"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, path)...)
	return append(errs, validateForever(&t.Spec, path, kind)...)
}

// validateForever checks that pods are restarted for ever.
func validateForever(s *corev1.PodSpec, path *field.Path, kind string) (errs field.ErrorList) {
	if s.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), s.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+title(kind)+" is not Supported"))
	}
	return errs
}

func title(kind string) string {
	switch kind {
	case "daemonset":
		return "DaemonSet"
	case "statefulset":
		return "StatefulSet"
	}
	return "ReplicaSet" // upstream checks deployments by the same function
}

// templateWarnings warns of a new workload's name and template.
func templateWarnings(name string, t *corev1.PodTemplateSpec) []string {
	return append(podspec.NameWarnings(name, "Pod names and hostnames"), podspec.TemplateWarnings(t, specPath.Child("template"))...)
}

// changedWarnings warns of the template of a workload whose specification changed.
func changedWarnings(spec, old any, t *corev1.PodTemplateSpec) []string {
	if equality.Semantic.DeepEqual(spec, old) {
		return nil
	}
	return podspec.TemplateWarnings(t, specPath.Child("template"))
}
