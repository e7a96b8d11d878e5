package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/podspec"
)

func validatePersistentVolume(v *corev1.PersistentVolume) (errs field.ErrorList) {
	s := &v.Spec
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(specPath.Child("accessModes"), ""))
	}
	errs = append(errs, podspec.ValidateAccessModes(s.AccessModes, specPath.Child("accessModes"))...)
	p := specPath.Child("capacity")
	if len(s.Capacity) == 0 {
		errs = append(errs, field.Required(p, ""))
	} else if size, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(p, s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(p.Key(string(corev1.ResourceStorage)), size.String(), "must be greater than zero"))
	}
	errs = append(errs, check.RequiredOneOf(specPath.Child("persistentVolumeReclaimPolicy"), s.PersistentVolumeReclaimPolicy,
		corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	if a := s.NodeAffinity; a != nil {
		p := specPath.Child("nodeAffinity", "required")
		if a.Required == nil {
			errs = append(errs, field.Required(p, "must specify required node constraints"))
		} else {
			errs = append(errs, podspec.ValidateNodeSelector(a.Required, p)...)
		}
	}
	errs = append(errs, validatePersistentSource(s)...)
	if s.HostPath != nil && s.HostPath.Path == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(specPath.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, check.Name(specPath.Child("storageClassName"), s.StorageClassName, validation.NameIsDNSSubdomain)...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, check.OneOf(specPath.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	if c := s.VolumeAttributesClassName; c != nil {
		errs = append(errs, check.RequiredName(specPath.Child("volumeAttributesClassName"), *c, func(n string) []string { return validation.NameIsDNSSubdomain(n, false) })...)
		if s.CSI == nil {
			errs = append(errs, field.Required(specPath.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// validatePersistentSource checks the one source that is set, and that it is
// one.
func validatePersistentSource(s *corev1.PersistentVolumeSpec) (errs field.ErrorList) {
	n := 0
	one := func(set bool, name string, check func(*field.Path) field.ErrorList) {
		if !set {
			return
		}
		p := specPath.Child(name)
		if n > 0 {
			errs = append(errs, field.Forbidden(p, "may not specify more than 1 volume type"))
			return
		}
		n++
		errs = append(errs, check(p)...)
	}
	one(s.HostPath != nil, "hostPath", func(p *field.Path) field.ErrorList { return podspec.ValidateHostPath(s.HostPath, p) })
	one(s.GCEPersistentDisk != nil, "gcePersistentDisk", func(p *field.Path) field.ErrorList { return podspec.ValidateGCEDisk(s.GCEPersistentDisk, p) })
	one(s.AWSElasticBlockStore != nil, "awsElasticBlockStore", func(p *field.Path) field.ErrorList { return podspec.ValidateAWSDisk(s.AWSElasticBlockStore, p) })
	one(s.Glusterfs != nil, "glusterfs", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("endpoints"), s.Glusterfs.EndpointsName, ""), check.Required(p.Child("path"), s.Glusterfs.Path, "")...)
	})
	one(s.Flocker != nil, "flocker", func(*field.Path) field.ErrorList { return nil })
	one(s.NFS != nil, "nfs", func(p *field.Path) field.ErrorList { return podspec.ValidateNFS(s.NFS, p) })
	one(s.RBD != nil, "rbd", func(p *field.Path) field.ErrorList { return podspec.ValidateRBD(s.RBD.CephMonitors, s.RBD.RBDImage, p) })
	one(s.Quobyte != nil, "quobyte", func(p *field.Path) field.ErrorList { return check.Required(p.Child("volume"), s.Quobyte.Volume, "") })
	one(s.CephFS != nil, "cephFS", func(p *field.Path) field.ErrorList { return podspec.ValidateCephFS(s.CephFS.Monitors, p) })
	one(s.ISCSI != nil, "iscsi", func(p *field.Path) field.ErrorList {
		return podspec.ValidateISCSI(s.ISCSI.TargetPortal, s.ISCSI.IQN, s.ISCSI.Lun, s.ISCSI.InitiatorName, p)
	})
	one(s.Cinder != nil, "cinder", func(p *field.Path) field.ErrorList { return check.Required(p.Child("volumeID"), s.Cinder.VolumeID, "") })
	one(s.FC != nil, "fc", func(p *field.Path) field.ErrorList { return podspec.ValidateFC(s.FC, p) })
	one(s.FlexVolume != nil, "flexVolume", func(p *field.Path) field.ErrorList { return check.Required(p.Child("driver"), s.FlexVolume.Driver, "") })
	one(s.AzureFile != nil, "azureFile", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("secretName"), s.AzureFile.SecretName, ""), check.Required(p.Child("shareName"), s.AzureFile.ShareName, "")...)
	})
	one(s.VsphereVolume != nil, "vsphereVolume", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("volumePath"), s.VsphereVolume.VolumePath, "")
	})
	one(s.PhotonPersistentDisk != nil, "photonPersistentDisk", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("pdID"), s.PhotonPersistentDisk.PdID, "")
	})
	one(s.PortworxVolume != nil, "portworxVolume", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("volumeID"), s.PortworxVolume.VolumeID, "")
	})
	one(s.AzureDisk != nil, "azureDisk", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("diskName"), s.AzureDisk.DiskName, ""), check.Required(p.Child("diskURI"), s.AzureDisk.DataDiskURI, "")...)
	})
	one(s.ScaleIO != nil, "scaleIO", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("gateway"), s.ScaleIO.Gateway, ""), check.Required(p.Child("volumeName"), s.ScaleIO.VolumeName, "")...)
	})
	one(s.Local != nil, "local", func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("path"), s.Local.Path, "")
		errs = append(errs, check.NoBacksteps(p.Child("path"), s.Local.Path)...)
		if s.NodeAffinity == nil || s.NodeAffinity.Required == nil {
			errs = append(errs, field.Required(specPath.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
		return errs
	})
	one(s.StorageOS != nil, "storageos", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("volumeName"), s.StorageOS.VolumeName, "")
	})
	one(s.CSI != nil, "csi", func(p *field.Path) field.ErrorList { return validateCSI(s.CSI, p) })
	if n == 0 {
		errs = append(errs, field.Required(specPath, "must specify a volume type"))
	}
	return errs
}

func validateCSI(s *corev1.CSIPersistentVolumeSource, path *field.Path) field.ErrorList {
	errs := podspec.ValidateDriverName(s.Driver, path.Child("driver"))
	errs = append(errs, check.Required(path.Child("volumeHandle"), s.VolumeHandle, "")...)
	for _, r := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"nodeStageSecretRef", s.NodeStageSecretRef}, {"nodeExpandSecretRef", s.NodeExpandSecretRef},
	} {
		if r.ref != nil {
			errs = append(errs, check.Required(path.Child(r.name, "name"), r.ref.Name, "")...)
			errs = append(errs, check.Required(path.Child(r.name, "namespace"), r.ref.Namespace, "")...)
		}
	}
	return errs
}

func validatePersistentVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	errs := validatePersistentVolume(v)
	was := old.Spec.PersistentVolumeSource.DeepCopy()
	// Expansion needs secrets that older volumes were made without.
	if is := v.Spec.CSI; is != nil && was.CSI != nil {
		if was.CSI.ControllerExpandSecretRef == nil {
			was.CSI.ControllerExpandSecretRef = is.ControllerExpandSecretRef
		}
		if was.CSI.NodeExpandSecretRef == nil {
			was.CSI.NodeExpandSecretRef = is.NodeExpandSecretRef
		}
	}
	if !equality.Semantic.DeepEqual(v.Spec.PersistentVolumeSource, *was) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(v.Spec.PersistentVolumeSource, *was))))
	}
	errs = append(errs, check.Immutable(specPath.Child("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)...)
	if old.Spec.NodeAffinity != nil && !equality.Semantic.DeepEqual(v.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(specPath.Child("nodeAffinity"), v.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	return errs
}

func persistentVolumeWarnings(v, _ *corev1.PersistentVolume) (out []string) {
	if _, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		out = append(out, fmt.Sprintf(`%s: deprecated since v1.8; use "storageClassName" attribute instead`, field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation)))
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		out = append(out, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if q, ok := v.Spec.Capacity[corev1.ResourceStorage]; ok && q.MilliValue()%1000 != 0 {
		out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", specPath.Child("capacity").Key(string(corev1.ResourceStorage)), q.String()))
	}
	return out
}
