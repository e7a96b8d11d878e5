package podspec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// ValidateAnnotations checks the annotations of a pod or a template that mean
// something to Kubernetes.
func ValidateAnnotations(all map[string]string, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if len(all) == 0 {
		return nil
	}
	if v, static := all[corev1.MirrorPodAnnotationKey]; static && s.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(corev1.MirrorPodAnnotationKey), v, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if v := all[corev1.TolerationsAnnotationKey]; v != "" {
		var list []corev1.Toleration
		if err := json.Unmarshal([]byte(v), &list); err != nil {
			errs = append(errs, field.Invalid(path, corev1.TolerationsAnnotationKey, err.Error()))
		} else {
			errs = append(errs, ValidateTolerations(list, path.Child(corev1.TolerationsAnnotationKey))...)
		}
	}
	if v, ok := all[corev1.PodDeletionCost]; ok && !deletionCost(v) {
		errs = append(errs, field.Invalid(path.Key(corev1.PodDeletionCost), v, "must be a 32bit integer"))
	}
	if v, ok := all[corev1.SeccompPodAnnotationKey]; ok {
		errs = append(errs, seccompAnnotation(v, path.Child(corev1.SeccompPodAnnotationKey))...)
	}
	for _, k := range keysWith(all, corev1.SeccompContainerAnnotationKeyPrefix) {
		errs = append(errs, seccompAnnotation(all[k], path.Child(k))...)
	}
	for _, k := range keysWith(all, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) {
		name := k[len(corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix):]
		if !hasContainer(s, name) {
			errs = append(errs, field.Invalid(path.Key(k), name, "container not found"))
		}
		switch v := all[k]; {
		case v == "", v == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, v == corev1.DeprecatedAppArmorBetaProfileNameUnconfined,
			strings.HasPrefix(v, corev1.DeprecatedAppArmorBetaProfileNamePrefix):
		default:
			errs = append(errs, field.Invalid(path.Key(k), v, fmt.Sprintf("invalid AppArmor profile name: %q", v)))
		}
	}
	return errs
}

// keysWith are the keys that begin with prefix, in order.
func keysWith(all map[string]string, prefix string) (keys []string) {
	for k := range all {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// deletionCost says whether a text is a number in its one form: no plus sign, no
// leading zero.
func deletionCost(v string) bool {
	first := v != "" && (v[0] == '-' || v[0] == '0' && v == "0" || v[0] >= '1' && v[0] <= '9')
	_, err := strconv.ParseInt(v, 10, 32)
	return first && err == nil
}

func seccompAnnotation(v string, path *field.Path) field.ErrorList {
	if v == corev1.SeccompProfileRuntimeDefault || v == corev1.DeprecatedSeccompProfileDockerDefault || v == corev1.SeccompProfileNameUnconfined {
		return nil
	}
	if file, ok := strings.CutPrefix(v, corev1.SeccompLocalhostProfileNamePrefix); ok {
		return check.RelativePath(path, file)
	}
	return field.ErrorList{field.Invalid(path, v, "must be a valid seccomp profile")}
}

func hasContainer(s *corev1.PodSpec, name string) (has bool) {
	eachContainer(s, nil, func(c *corev1.Container, _ *field.Path) { has = has || c.Name == name })
	return has
}

// ValidateProfiles demands that the older annotations for seccomp and AppArmor
// say the same as the fields.
func ValidateProfiles(all map[string]string, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if len(all) == 0 {
		return nil
	}
	var pod corev1.PodSecurityContext
	if s.SecurityContext != nil {
		pod = *s.SecurityContext
	}
	match := func(annotation, what string, f profile, p *field.Path) {
		got, ok := all[annotation]
		if !ok || f.kind == "" {
			return
		}
		text := what + " type in annotation and field must match"
		switch {
		case f.kind == "Localhost":
			file, local := strings.CutPrefix(got, "localhost/")
			if !local {
				errs = append(errs, field.Forbidden(p.Child("type"), text))
			} else if f.file == nil || *f.file != file {
				errs = append(errs, field.Forbidden(p.Child("localhostProfile"), what+" profile in annotation and field must match"))
			}
		case f.kind == "Unconfined" && got != "unconfined",
			f.kind == "RuntimeDefault" && got != "runtime/default" && !(what == "seccomp" && got == corev1.DeprecatedSeccompProfileDockerDefault):
			errs = append(errs, field.Forbidden(p.Child("type"), text))
		}
	}
	match(corev1.SeccompPodAnnotationKey, "seccomp", ofSeccomp(pod.SeccompProfile), path.Child("securityContext", "seccompProfile"))
	eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
		if c.SecurityContext != nil {
			match(corev1.SeccompContainerAnnotationKeyPrefix+c.Name, "seccomp", ofSeccomp(c.SecurityContext.SeccompProfile), p.Child("securityContext", "seccompProfile"))
		}
	})
	if s.OS != nil && s.OS.Name == corev1.Windows {
		return errs
	}
	eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
		own := pod.AppArmorProfile
		if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			own = c.SecurityContext.AppArmorProfile
		}
		if own != nil {
			match(corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name, "apparmor", profile{string(own.Type), own.LocalhostProfile}, p.Child("securityContext", "appArmorProfile"))
		}
	})
	return errs
}

type profile struct {
	kind string
	file *string
}

func ofSeccomp(s *corev1.SeccompProfile) profile {
	if s == nil {
		return profile{}
	}
	return profile{string(s.Type), s.LocalhostProfile}
}
