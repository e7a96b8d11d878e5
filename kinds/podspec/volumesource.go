package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

// ValidateDriverName checks the name of a storage driver.
func ValidateDriverName(name string, path *field.Path) (errs field.ErrorList) {
	if name == "" {
		errs = append(errs, field.Required(path, ""))
	}
	if len(name) > 63 {
		errs = append(errs, field.TooLong(path, name, 63))
	}
	return append(errs, check.Rule(path, strings.ToLower(name), utilvalidation.IsDNS1123Subdomain)...)
}

// ValidateHostPath checks the source that pods and volumes share, as do the
// following for theirs.
func ValidateHostPath(s *corev1.HostPathVolumeSource, path *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	errs := check.NoBacksteps(path.Child("path"), s.Path)
	if s.Type != nil {
		errs = append(errs, check.OneOf(path.Child("type"), *s.Type, corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory,
			corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)...)
	}
	return errs
}

// ValidateNFS checks a network share.
func ValidateNFS(s *corev1.NFSVolumeSource, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("server"), s.Server, "")
	errs = append(errs, check.Required(path.Child("path"), s.Path, "")...)
	if !strings.HasPrefix(s.Path, "/") {
		errs = append(errs, field.Invalid(path.Child("path"), s.Path, "must be an absolute path"))
	}
	return errs
}

// ValidateGCEDisk checks a disk of Google's cloud.
func ValidateGCEDisk(s *corev1.GCEPersistentDiskVolumeSource, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("pdName"), s.PDName, "")
	return append(errs, validatePartition(s.Partition, path)...)
}

// ValidateAWSDisk checks a disk of Amazon's cloud.
func ValidateAWSDisk(s *corev1.AWSElasticBlockStoreVolumeSource, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("volumeID"), s.VolumeID, "")
	return append(errs, validatePartition(s.Partition, path)...)
}

func validatePartition(n int32, path *field.Path) field.ErrorList {
	if n < 0 || n > 255 {
		return field.ErrorList{field.Invalid(path.Child("partition"), n, utilvalidation.InclusiveRangeError(0, 255))}
	}
	return nil
}

// ValidateISCSI checks an iSCSI target.
func ValidateISCSI(portal, iqn string, lun int32, initiator *string, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("targetPortal"), portal, "")
	switch {
	case iqn == "":
		errs = append(errs, field.Required(path.Child("iqn"), ""))
	case !strings.HasPrefix(iqn, "iqn") && !strings.HasPrefix(iqn, "eui") && !strings.HasPrefix(iqn, "naa"):
		errs = append(errs, field.Invalid(path.Child("iqn"), iqn, "must be valid format starting with iqn, eui, or naa"))
	}
	if lun < 0 || lun > 255 {
		errs = append(errs, field.Invalid(path.Child("lun"), lun, utilvalidation.InclusiveRangeError(0, 255)))
	}
	if initiator != nil && !strings.HasPrefix(*initiator, "iqn") && !strings.HasPrefix(*initiator, "eui") && !strings.HasPrefix(*initiator, "naa") {
		errs = append(errs, field.Invalid(path.Child("initiatorname"), *initiator, "must be valid format"))
	}
	return errs
}

// ValidateFC checks a Fibre Channel disk.
func ValidateFC(s *corev1.FCVolumeSource, path *field.Path) (errs field.ErrorList) {
	switch {
	case len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0:
		errs = append(errs, field.Required(path.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both"))
	case len(s.TargetWWNs) != 0 && len(s.WWIDs) != 0:
		errs = append(errs, field.Invalid(path.Child("targetWWNs"), s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	if len(s.TargetWWNs) != 0 {
		if s.Lun == nil {
			errs = append(errs, field.Required(path.Child("lun"), "lun is required if targetWWNs is specified"))
		} else if *s.Lun < 0 || *s.Lun > 255 {
			errs = append(errs, field.Invalid(path.Child("lun"), *s.Lun, utilvalidation.InclusiveRangeError(0, 255)))
		}
	}
	return errs
}

// ValidateRBD checks a Ceph block device.
func ValidateRBD(monitors []string, image string, path *field.Path) (errs field.ErrorList) {
	if len(monitors) == 0 {
		errs = append(errs, field.Required(path.Child("monitors"), ""))
	}
	return append(errs, check.Required(path.Child("image"), image, "")...)
}

// ValidateCephFS checks a Ceph file system.
func ValidateCephFS(monitors []string, path *field.Path) field.ErrorList {
	if len(monitors) == 0 {
		return field.ErrorList{field.Required(path.Child("monitors"), "")}
	}
	return nil
}
