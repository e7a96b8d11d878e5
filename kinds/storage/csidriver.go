package storage

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/kinds/podspec"
	"sagong/object"
)

// CSIDriver defines storage.k8s.io/v1 CSIDriver.
func CSIDriver() *object.Definition {
	spec := storagev1.CSIDriverSpec{}.SwaggerDoc()
	flag := func(name, doc string, unset bool, get func(*storagev1.CSIDriverSpec) *bool) object.TypedColumn[*storagev1.CSIDriver] {
		return object.BoolColumn(name, doc, func(d *storagev1.CSIDriver) bool {
			if p := get(&d.Spec); p != nil {
				return *p
			}
			return unset
		})
	}
	return object.Kind[*storagev1.CSIDriver]{
		Group: "storage.k8s.io", Version: "v1", Kind: "CSIDriver", Resource: "csidrivers",
		Generation: true, RefuseUnconditionalUpdate: true,
		New:     func() *storagev1.CSIDriver { return &storagev1.CSIDriver{} },
		NewList: func() runtime.Object { return &storagev1.CSIDriverList{} },
		Columns: []object.TypedColumn[*storagev1.CSIDriver]{
			object.NameColumn[*storagev1.CSIDriver](),
			flag("AttachRequired", spec["attachRequired"], true, func(s *storagev1.CSIDriverSpec) *bool { return s.AttachRequired }),
			flag("PodInfoOnMount", spec["podInfoOnMount"], false, func(s *storagev1.CSIDriverSpec) *bool { return s.PodInfoOnMount }),
			flag("StorageCapacity", spec["storageCapacity"], false, func(s *storagev1.CSIDriverSpec) *bool { return s.StorageCapacity }),
			object.StringColumn("TokenRequests", spec["tokenRequests"], func(d *storagev1.CSIDriver) string {
				if d.Spec.TokenRequests == nil {
					return "<unset>"
				}
				var all []string
				for _, t := range d.Spec.TokenRequests {
					all = append(all, t.Audience)
				}
				return strings.Join(all, ",")
			}),
			flag("RequiresRepublish", spec["requiresRepublish"], false, func(s *storagev1.CSIDriverSpec) *bool { return s.RequiresRepublish }),
			object.StringColumn("Modes", spec["volumeLifecycleModes"], func(d *storagev1.CSIDriver) string {
				var all []string
				for _, m := range d.Spec.VolumeLifecycleModes {
					all = append(all, string(m))
				}
				if len(all) == 0 {
					return "<none>"
				}
				return strings.Join(all, ",")
			}),
			object.AgeColumn[*storagev1.CSIDriver](),
		},
		Default:        defaultCSIDriver,
		NameRule:       nameOfDriver,
		Validate:       validateCSIDriver,
		ValidateUpdate: validateCSIDriverUpdate,
	}.Definition()
}

func defaultCSIDriver(d *storagev1.CSIDriver) {
	s := &d.Spec
	fill.Ptr(&s.AttachRequired, true)
	fill.Ptr(&s.PodInfoOnMount, false)
	fill.Ptr(&s.StorageCapacity, false)
	fill.Ptr(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	fill.Ptr(&s.RequiresRepublish, false)
	fill.Ptr(&s.SELinuxMount, false)
}

// nameOfDriver is the rule of driver names, upper case allowed.
func nameOfDriver(name string, _ bool) (out []string) {
	for _, err := range podspec.ValidateDriverName(name, nil) {
		out = append(out, err.Detail)
	}
	return out
}

func validateCSIDriver(d *storagev1.CSIDriver) (errs field.ErrorList) {
	s, p := &d.Spec, field.NewPath("spec")
	for _, f := range []struct {
		name string
		v    *bool
	}{{"attachedRequired", s.AttachRequired}, {"podInfoOnMount", s.PodInfoOnMount}, {"storageCapacity", s.StorageCapacity}} {
		if f.v == nil {
			errs = append(errs, field.Required(p.Child(f.name), ""))
		}
	}
	if s.FSGroupPolicy != nil {
		errs = append(errs, check.OneOf(p.Child("fsGroupPolicy"), *s.FSGroupPolicy,
			storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy)...)
	}
	seen := map[string]bool{}
	for i, t := range s.TokenRequests {
		p := p.Child("tokenRequests").Index(i)
		if seen[t.Audience] {
			errs = append(errs, field.Duplicate(p.Child("audience"), t.Audience))
			continue
		}
		seen[t.Audience] = true
		if n := t.ExpirationSeconds; n != nil && *n < 10*60 {
			errs = append(errs, field.Invalid(p.Child("expirationSeconds"), *n, "may not specify a duration less than 10 minutes"))
		}
		if n := t.ExpirationSeconds; n != nil && *n > 1<<32 {
			errs = append(errs, field.Invalid(p.Child("expirationSeconds"), *n, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	for _, m := range s.VolumeLifecycleModes {
		errs = append(errs, check.Listed(p.Child("volumeLifecycleModes"), m, storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)...)
	}
	if v := s.ServiceAccountTokenInSecrets; v != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(p.Child("serviceAccountTokenInSecrets"), *v, "serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	if n := s.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < 10 {
		errs = append(errs, field.Invalid(p.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	return errs
}

func validateCSIDriverUpdate(d, old *storagev1.CSIDriver) field.ErrorList {
	p := field.NewPath("spec")
	errs := validateCSIDriver(d)
	errs = append(errs, check.Immutable(p.Child("attachedRequired"), d.Spec.AttachRequired, old.Spec.AttachRequired)...)
	return append(errs, check.Immutable(p.Child("volumeLifecycleModes"), d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes)...)
}
