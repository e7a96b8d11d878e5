package apps

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

func validateStatefulSet(set *appsv1.StatefulSet) field.ErrorList {
	return validateStatefulSetSpec(set, true)
}

// validateStatefulSetSpec checks a specification; what can never change is looked at
// only when the set is created.
func validateStatefulSetSpec(set *appsv1.StatefulSet, created bool) (errs field.ErrorList) {
	s := &set.Spec
	switch policy := specPath.Child("podManagementPolicy"); s.PodManagementPolicy {
	case "":
		errs = append(errs, field.Required(policy, ""))
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		errs = append(errs, field.Invalid(policy, s.PodManagementPolicy, "must be 'OrderedReady' or 'Parallel'"))
	}
	p := specPath.Child("updateStrategy")
	switch s.UpdateStrategy.Type {
	case "":
		errs = append(errs, field.Required(p, ""))
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.UpdateStrategy.RollingUpdate != nil {
			errs = append(errs, field.Invalid(p.Child("rollingUpdate"), s.UpdateStrategy.RollingUpdate,
				fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType)))
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if r := s.UpdateStrategy.RollingUpdate; r != nil {
			p := p.Child("rollingUpdate")
			errs = append(errs, check.NonnegativePtr(p.Child("partition"), r.Partition)...)
			if m := r.MaxUnavailable; m != nil {
				errs = append(errs, check.PositiveIntOrPercent(p.Child("maxUnavailable"), *m)...)
				if check.Zero(*m) {
					errs = append(errs, field.Invalid(p.Child("maxUnavailable"), *m, "cannot be 0"))
				}
				errs = append(errs, check.AtMost100Percent(p.Child("maxUnavailable"), *m)...)
			}
		}
	default:
		errs = append(errs, field.Invalid(p, s.UpdateStrategy,
			fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType)))
	}
	if r := s.PersistentVolumeClaimRetentionPolicy; r != nil {
		p := specPath.Child("persistentVolumeClaimRetentionPolicy")
		for _, f := range []struct {
			name string
			v    appsv1.PersistentVolumeClaimRetentionPolicyType
		}{{"whenDeleted", r.WhenDeleted}, {"whenScaled", r.WhenScaled}} {
			errs = append(errs, check.Listed(p.Child(f.name), f.v, appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType)...)
		}
	}
	for i := range s.VolumeClaimTemplates {
		if created {
			errs = append(errs, podspec.ValidateClaim(&s.VolumeClaimTemplates[i].Spec, specPath.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
		}
	}
	errs = append(errs, check.NonnegativePtr(specPath.Child("replicas"), s.Replicas)...)
	errs = append(errs, check.Nonnegative(specPath.Child("minReadySeconds"), s.MinReadySeconds)...)
	if s.Ordinals != nil {
		errs = append(errs, check.Nonnegative(specPath.Child("ordinals.start"), s.Ordinals.Start)...)
	}
	if created && s.ServiceName != "" {
		errs = append(errs, check.Rule(specPath.Child("serviceName"), s.ServiceName, check.IsDNS1123Label)...)
	}
	return append(errs, validateSelected(s.Selector, podTemplate(set), "statefulset")...)
}

func validateStatefulSetUpdate(set, old *appsv1.StatefulSet) field.ErrorList {
	errs := validateStatefulSetSpec(set, false)
	// Put back what may change; the rest must be as it was.
	rest := set.Spec.DeepCopy()
	rest.Replicas = old.Spec.Replicas
	rest.Template = old.Spec.Template
	rest.UpdateStrategy = old.Spec.UpdateStrategy
	rest.MinReadySeconds = old.Spec.MinReadySeconds
	rest.Ordinals = old.Spec.Ordinals
	rest.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	rest.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equality.Semantic.DeepEqual(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(specPath, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

func validateStatefulSetStatus(set, old *appsv1.StatefulSet) field.ErrorList {
	s := &set.Status
	errs := check.Nonnegative(statusPath.Child("replicas"), s.Replicas)
	errs = append(errs, check.Nonnegative(statusPath.Child("readyReplicas"), s.ReadyReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("currentReplicas"), s.CurrentReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("updatedReplicas"), s.UpdatedReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("availableReplicas"), s.AvailableReplicas)...)
	errs = append(errs, check.Nonnegative(statusPath.Child("observedGeneration"), s.ObservedGeneration)...)
	errs = append(errs, check.NonnegativePtr(statusPath.Child("collisionCount"), s.CollisionCount)...)
	for _, f := range []struct {
		name string
		n    int32
	}{{"readyReplicas", s.ReadyReplicas}, {"currentReplicas", s.CurrentReplicas}, {"updatedReplicas", s.UpdatedReplicas}, {"availableReplicas", s.AvailableReplicas}} {
		if f.n > s.Replicas {
			errs = append(errs, field.Invalid(statusPath.Child(f.name), f.n, "cannot be greater than status.replicas"))
		}
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than status.readyReplicas"))
	}
	return append(errs, collisions(s.CollisionCount, old.Status.CollisionCount)...)
}

func statefulSetWarnings(s, old *appsv1.StatefulSet) []string {
	var out []string
	if old == nil {
		out = templateWarnings(s.Name, &s.Spec.Template)
	} else {
		out = changedWarnings(s.Spec, old.Spec, &s.Spec.Template)
	}
	for i := range s.Spec.VolumeClaimTemplates {
		p := specPath.Child("volumeClaimTemplates").Index(i)
		if old != nil {
			p = p.Child("Spec") // so upstream writes it
		}
		out = append(out, podspec.ClaimWarnings(&s.Spec.VolumeClaimTemplates[i].Spec, p)...)
	}
	if n := s.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		out = append(out, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return out
}

// podTemplate is the template with the volumes its claims become, so that
// mounts of them are found.
func podTemplate(set *appsv1.StatefulSet) *corev1.PodTemplateSpec {
	t := set.Spec.Template
	have := map[string]bool{}
	for _, v := range t.Spec.Volumes {
		have[v.Name] = true
	}
	volumes := slices.Clone(t.Spec.Volumes)
	for _, c := range set.Spec.VolumeClaimTemplates {
		if c.Name != "" && !have[c.Name] {
			have[c.Name] = true
			volumes = append(volumes, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name},
			}})
		}
	}
	t.Spec.Volumes = volumes
	return &t
}
