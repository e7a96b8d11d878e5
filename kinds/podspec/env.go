package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

var (
	envFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	// podFields are those which the API can express at all; another is an error
	// of its own.
	podFields = []string{
		"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
		"spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName",
		"status.phase", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs", "spec.host",
	}
	resourceFields = []string{
		"limits.cpu", "limits.ephemeral-storage", "limits.memory",
		"requests.cpu", "requests.ephemeral-storage", "requests.memory",
	}
)

func validateEnv(env []corev1.EnvVar, path *field.Path) (errs field.ErrorList) {
	for i := range env {
		e, p := &env[i], path.Index(i)
		errs = append(errs, check.RequiredName(p.Child("name"), e.Name, utilvalidation.IsRelaxedEnvVarName)...)
		if e.ValueFrom == nil {
			continue
		}
		from, p := e.ValueFrom, p.Child("valueFrom")
		sources := 0
		if from.FieldRef != nil {
			sources++
			errs = append(errs, validateFieldRef(from.FieldRef, envFields, p.Child("fieldRef"))...)
		}
		if from.ResourceFieldRef != nil {
			sources++
			errs = append(errs, validateResourceRef(from.ResourceFieldRef, false, p.Child("resourceFieldRef"))...)
		}
		if ref := from.ConfigMapKeyRef; ref != nil {
			sources++
			errs = append(errs, validateKeyRef(ref.Name, ref.Key, p.Child("configMapKeyRef"))...)
		}
		if ref := from.SecretKeyRef; ref != nil {
			sources++
			errs = append(errs, validateKeyRef(ref.Name, ref.Key, p.Child("secretKeyRef"))...)
		}
		if ref := from.FileKeyRef; ref != nil {
			sources++
			errs = append(errs, validateFileRef(ref, p.Child("fileKeyRef"))...)
		}
		switch {
		case sources == 0:
			errs = append(errs, field.Invalid(p, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
		case e.Value != "":
			errs = append(errs, field.Invalid(p, "", "may not be specified when `value` is not empty"))
		case sources > 1:
			errs = append(errs, field.Invalid(p, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

func subdomain(name string) []string { return validation.NameIsDNSSubdomain(name, false) }

// subdomainPrefix lets a name end in a hyphen, as upstream does for whole sources
// of variables.
func subdomainPrefix(name string) []string { return validation.NameIsDNSSubdomain(name, true) }

func validateKeyRef(name, key string, path *field.Path) field.ErrorList {
	errs := check.Rule(path.Child("name"), name, subdomain)
	return append(errs, check.RequiredName(path.Child("key"), key, utilvalidation.IsConfigMapKey)...)
}

func validateFileRef(ref *corev1.FileKeySelector, path *field.Path) field.ErrorList {
	errs := check.RequiredName(path.Child("key"), ref.Key, utilvalidation.IsRelaxedEnvVarName)
	errs = append(errs, check.RequiredName(path.Child("volumeName"), ref.VolumeName, check.IsDNS1123Label)...)
	if ref.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, check.NoBacksteps(path.Child("path"), ref.Path)...)
}

func validateEnvFrom(list []corev1.EnvFromSource, path *field.Path) (errs field.ErrorList) {
	for i := range list {
		e, p := &list[i], path.Index(i)
		if e.Prefix != "" {
			errs = append(errs, check.Rule(p.Child("prefix"), e.Prefix, utilvalidation.IsRelaxedEnvVarName)...)
		}
		sources := 0
		if e.ConfigMapRef != nil {
			sources++
			errs = append(errs, check.RequiredName(p.Child("configMapRef", "name"), e.ConfigMapRef.Name, subdomainPrefix)...)
		}
		if e.SecretRef != nil {
			sources++
			errs = append(errs, check.RequiredName(p.Child("secretRef", "name"), e.SecretRef.Name, subdomainPrefix)...)
		}
		switch {
		case sources == 0:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case sources > 1:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

func validateFieldRef(ref *corev1.ObjectFieldSelector, allowed []string, path *field.Path) field.ErrorList {
	if ref.APIVersion == "" {
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	}
	if ref.FieldPath == "" {
		return field.ErrorList{field.Required(path.Child("fieldPath"), "")}
	}
	if ref.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(path.Child("fieldPath"), ref.FieldPath, "error converting fieldPath: unsupported pod version: "+ref.APIVersion)}
	}
	if name, key, ok := strings.Cut(strings.TrimSuffix(ref.FieldPath, "']"), "['"); ok && name != "" && strings.HasSuffix(ref.FieldPath, "']") {
		switch name {
		case "metadata.annotations":
			return check.Rule(path, strings.ToLower(key), check.IsQualifiedName)
		case "metadata.labels":
			return check.Rule(path, key, check.IsQualifiedName)
		}
		return field.ErrorList{field.Invalid(path.Child("fieldPath"), ref.FieldPath, "error converting fieldPath: field label does not support subscript: "+ref.FieldPath)}
	}
	if !slices.Contains(podFields, ref.FieldPath) {
		return field.ErrorList{field.Invalid(path.Child("fieldPath"), ref.FieldPath, "error converting fieldPath: field label not supported: "+ref.FieldPath)}
	}
	full := ref.FieldPath
	if full == "spec.host" {
		full = "spec.nodeName"
	}
	return check.OneOf(path.Child("fieldPath"), full, allowed...)
}

// validateResourceRef checks a resourceFieldRef; inVolume says whether it
// stands in a volume, where it must name its container.
func validateResourceRef(ref *corev1.ResourceFieldSelector, inVolume bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case inVolume && ref.ContainerName == "":
		errs = append(errs, field.Required(path.Child("containerName"), ""))
	case ref.Resource == "":
		errs = append(errs, field.Required(path.Child("resource"), ""))
	case !strings.HasPrefix(ref.Resource, "limits.hugepages-") && !strings.HasPrefix(ref.Resource, "requests.hugepages-"):
		errs = append(errs, check.OneOf(path.Child("resource"), ref.Resource, resourceFields...)...)
	}
	return append(errs, validateDivisor(ref.Resource, ref.Divisor, path)...)
}

var byteDivisors = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}

func validateDivisor(name string, divisor resource.Quantity, path *field.Path) field.ErrorList {
	if divisor.IsZero() {
		return nil
	}
	s := divisor.String()
	path = path.Child("divisor")
	what := ""
	switch {
	case name == "limits.cpu" || name == "requests.cpu":
		if s != "1m" && s != "1" {
			return field.ErrorList{field.Invalid(path, name, "only divisor's values 1m and 1 are supported with the cpu resource")}
		}
		return nil
	case name == "limits.memory" || name == "requests.memory":
		what = "memory"
	case name == "limits.ephemeral-storage" || name == "requests.ephemeral-storage":
		what = "local ephemeral storage"
	case strings.HasPrefix(name, "limits.hugepages-") || strings.HasPrefix(name, "requests.hugepages-"):
		what = "hugepages"
	}
	if what == "" || slices.Contains(byteDivisors, s) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name,
		fmt.Sprintf("only divisor's values %s are supported with the %s resource", strings.Join(byteDivisors, ", "), what))}
}
