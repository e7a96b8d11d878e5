package resource

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds/check"
	"sagong/object"
)

// Metadata is checked by the library, which says what is wrong with it. That little
// or nothing is wrong is seen here for a tenth of the cost: the functions below may
// say no to what the library accepts, never yes to what it refuses
// (TestPlainMetadata).

// nameIsDNSSubdomain is the library's NameIsDNSSubdomain.
func nameIsDNSSubdomain(name string, prefix bool) []string {
	if !prefix && check.IsDNS1123Label(name) == nil {
		return nil
	}
	return validation.NameIsDNSSubdomain(name, prefix)
}

// plainMetadata reports whether metadata but the name follows the rules of all
// kinds.
func plainMetadata(o object.Object, namespaced bool) bool {
	if ns := o.GetNamespace(); namespaced != (ns != "") || namespaced && check.IsDNS1123Label(ns) != nil {
		return false
	}
	return o.GetGeneration() >= 0 && plainFinalizers(o.GetFinalizers()) && plainMaps(o) &&
		plainOwners(o.GetOwnerReferences()) && plainManagers(o.GetManagedFields())
}

// plainChange reports whether metadata, which is plain, may follow old.
func plainChange(o, old object.Object) bool {
	now, was := o.GetCreationTimestamp(), old.GetCreationTimestamp()
	return old.GetDeletionTimestamp() == nil && o.GetDeletionTimestamp() == nil &&
		old.GetDeletionGracePeriodSeconds() == nil && o.GetDeletionGracePeriodSeconds() == nil &&
		o.GetResourceVersion() != "" && o.GetGeneration() >= old.GetGeneration() &&
		o.GetName() == old.GetName() && o.GetNamespace() == old.GetNamespace() && o.GetUID() == old.GetUID() && now.Equal(&was)
}

func plainMaps(o object.Object) bool {
	for k, v := range o.GetLabels() {
		if check.IsQualifiedName(k) != nil || v != "" && (strings.Contains(v, "/") || check.IsQualifiedName(v) != nil) {
			return false
		}
	}
	size := 0
	for k, v := range o.GetAnnotations() {
		if check.IsQualifiedName(k) != nil {
			return false
		}
		size += len(k) + len(v)
	}
	return size <= validation.TotalAnnotationSizeLimitB
}

func plainFinalizers(all []string) bool {
	for _, f := range all {
		if check.IsQualifiedName(f) != nil || len(all) > 1 && (f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents) {
			return false
		}
	}
	return true
}

func plainOwners(all []metav1.OwnerReference) bool {
	controllers := 0
	for i := range all {
		r := &all[i]
		group, version, ok := strings.Cut(r.APIVersion, "/")
		if !ok {
			group, version = "", r.APIVersion
		}
		if version == "" || strings.Contains(version, "/") || ok && group == "" || r.Kind == "" || r.Kind == "Event" || r.Name == "" || r.UID == "" {
			return false
		}
		if r.Controller != nil && *r.Controller {
			controllers++
		}
	}
	return controllers <= 1
}

func plainManagers(all []metav1.ManagedFieldsEntry) bool {
	for i := range all {
		e := &all[i]
		if e.Operation != metav1.ManagedFieldsOperationApply && e.Operation != metav1.ManagedFieldsOperationUpdate ||
			e.FieldsType != "" && e.FieldsType != "FieldsV1" || len(e.Manager) > 128 || len(e.Subresource) > 256 {
			return false
		}
		for j := range len(e.Manager) {
			if c := e.Manager[j]; c < ' ' || c > '~' {
				return false
			}
		}
	}
	return true
}
