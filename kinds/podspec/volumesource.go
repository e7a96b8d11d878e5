package podspec

import (
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// ValidateDriverName checks the name of a storage driver.
func ValidateDriverName(name string, path *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(name) > 63 {
		errs = append(errs, field.TooLong(path, "", 63))
	}
	for _, msg := range utilvalidation.IsDNS1123Subdomain(strings.ToLower(name)) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
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
		return field.ErrorList{field.Invalid(path.Child("partition"), n, utilvalidation.InclusiveRangeError(1, 255))} // upstream's text, which leaves 0 out
	}
	return nil
}

// ISCSI is what the iSCSI sources of pods and of volumes have in common.
type ISCSI struct {
	Portal, IQN string
	Lun         int32
	Initiator   *string
	CHAP        bool
	Secret      *string // its name, nil for no secret
	Volume      string  // the name of the PersistentVolume, empty in a pod
}

const longISCSI = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."

// ValidateISCSI checks an iSCSI target.
func ValidateISCSI(s ISCSI, path *field.Path) field.ErrorList {
	const badName = "must be valid format"
	badScheme := badName
	if s.Volume == "" {
		badScheme = "must be valid format starting with iqn, eui, or naa"
	}
	name := func(child, value string) field.ErrorList {
		scheme := iscsiNames[value[:min(3, len(value))]]
		switch {
		case scheme == nil:
			return field.ErrorList{field.Invalid(path.Child(child), value, badScheme)}
		case !scheme.MatchString(value):
			return field.ErrorList{field.Invalid(path.Child(child), value, badName)}
		}
		return nil
	}
	errs := check.Required(path.Child("targetPortal"), s.Portal, "")
	if s.Volume != "" && s.Initiator != nil && len(s.Volume+":"+s.Portal) > 64 {
		errs = append(errs, field.Invalid(path.Child("targetportal"), s.Portal, longISCSI))
	}
	if s.IQN == "" {
		errs = append(errs, field.Required(path.Child("iqn"), ""))
	} else {
		errs = append(errs, name("iqn", s.IQN)...)
	}
	if s.Lun < 0 || s.Lun > 255 {
		errs = append(errs, field.Invalid(path.Child("lun"), s.Lun, utilvalidation.InclusiveRangeError(0, 255)))
	}
	if s.CHAP && s.Secret == nil {
		errs = append(errs, field.Required(path.Child("secretRef"), ""))
	}
	if s.Volume != "" && s.Secret != nil && *s.Secret == "" {
		errs = append(errs, field.Required(path.Child("secretRef", "name"), ""))
	}
	if s.Initiator != nil {
		errs = append(errs, name("initiatorname", *s.Initiator)...)
	}
	return errs
}

var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
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

// ValidateQuobyte checks a Quobyte volume.
func ValidateQuobyte(s *corev1.QuobyteVolumeSource, path *field.Path) (errs field.ErrorList) {
	const detail = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case s.Registry == "":
		errs = append(errs, field.Required(path.Child("registry"), detail))
	case len(s.Tenant) >= 65:
		errs = append(errs, field.Required(path.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for pair := range strings.SplitSeq(s.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(path.Child("registry"), s.Registry, detail))
			}
		}
	}
	return append(errs, check.Required(path.Child("volume"), s.Volume, "")...)
}

// ValidateFlocker checks a Flocker dataset.
func ValidateFlocker(s *corev1.FlockerVolumeSource, path *field.Path) (errs field.ErrorList) {
	if s.DatasetName == "" && s.DatasetUUID == "" {
		errs = append(errs, field.Required(path, "one of datasetName and datasetUUID is required"))
	}
	if s.DatasetName != "" && s.DatasetUUID != "" {
		errs = append(errs, field.Invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(s.DatasetName, "/") {
		errs = append(errs, field.Invalid(path.Child("datasetName"), s.DatasetName, "must not contain '/'"))
	}
	return errs
}

// ValidateFlex checks the driver and the options of a flex volume.
func ValidateFlex(driver string, options map[string]string, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("driver"), driver, "")
	for _, k := range slices.Sorted(maps.Keys(options)) {
		namespace, _, _ := strings.Cut(k, "/")
		if n := "." + strings.ToLower(namespace); strings.HasSuffix(n, ".kubernetes.io") || strings.HasSuffix(n, ".k8s.io") {
			errs = append(errs, field.Invalid(path.Child("options").Key(k), k, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

// ValidateAzureDisk checks a disk of Microsoft's cloud.
func ValidateAzureDisk(s *corev1.AzureDiskVolumeSource, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("diskName"), s.DiskName, "")
	errs = append(errs, check.Required(path.Child("diskURI"), s.DataDiskURI, "")...)
	if s.CachingMode != nil {
		errs = append(errs, check.OneOf(path.Child("cachingMode"), *s.CachingMode,
			corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	}
	if s.Kind == nil {
		return errs
	}
	errs = append(errs, check.OneOf(path.Child("kind"), *s.Kind, corev1.AzureSharedBlobDisk, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk)...)
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *s.Kind == corev1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(s.DataDiskURI, prefix) {
		errs = append(errs, field.NotSupported(path.Child("diskURI"), s.DataDiskURI, []string{form}))
	}
	return errs
}

// ValidateScaleIO checks a ScaleIO volume.
func ValidateScaleIO(gateway, system, volume string, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("gateway"), gateway, "")
	errs = append(errs, check.Required(path.Child("system"), system, "")...)
	return append(errs, check.Required(path.Child("volumeName"), volume, "")...)
}

// ValidateStorageOS checks a StorageOS volume.
func ValidateStorageOS(volume, namespace string, path *field.Path) field.ErrorList {
	errs := check.RequiredName(path.Child("volumeName"), volume, check.IsDNS1123Label)
	if namespace != "" {
		errs = append(errs, check.Rule(path.Child("volumeNamespace"), namespace, check.IsDNS1123Label)...)
	}
	return errs
}
