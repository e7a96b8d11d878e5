package core

import (
	"fmt"
	"maps"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
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
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(p, s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Capacity)) {
		q, p := s.Capacity[name], p.Key(string(name))
		errs = append(errs, basicQuantity(p, q)...)
		if q.Sign() <= 0 {
			errs = append(errs, field.Invalid(p, q.String(), "must be greater than zero"))
		}
	}
	if s.PersistentVolumeReclaimPolicy != "" {
		errs = append(errs, check.OneOf(specPath.Child("persistentVolumeReclaimPolicy"), s.PersistentVolumeReclaimPolicy,
			corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if a := s.NodeAffinity; a != nil {
		p := specPath.Child("nodeAffinity", "required")
		if a.Required == nil {
			errs = append(errs, field.Required(p, "must specify required node constraints"))
		} else {
			errs = append(errs, podspec.ValidateNodeSelector(a.Required, p)...)
		}
	}
	errs = append(errs, validatePersistentSource(v)...)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(specPath.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, check.Name(specPath.Child("storageClassName"), s.StorageClassName, validation.NameIsDNSSubdomain)...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, check.OneOf(specPath.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	if c := s.VolumeAttributesClassName; c != nil {
		if *c == "" {
			errs = append(errs, field.Required(specPath.Child("volumeAttributesClassName"), "an empty string is disallowed"))
		} else {
			errs = append(errs, check.Name(specPath.Child("volumeAttributesClassName"), *c, validation.NameIsDNSSubdomain)...)
		}
		if s.CSI == nil {
			errs = append(errs, field.Required(specPath.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

// basicQuantity reports an amount below zero, rounded up.
func basicQuantity(path *field.Path, q resource.Quantity) field.ErrorList {
	if n := q.Value(); n < 0 {
		return field.ErrorList{field.Invalid(path, n, "must be a valid resource quantity")}
	}
	return nil
}

// validatePersistentSource checks the one source that is set, and that it is
// one.
func validatePersistentSource(v *corev1.PersistentVolume) (errs field.ErrorList) {
	s, n := &v.Spec, 0
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
	// Where a source is blamed under another name than its own, it is upstream's.
	one(s.GCEPersistentDisk != nil, "gcePersistentDisk", func(*field.Path) field.ErrorList {
		return podspec.ValidateGCEDisk(s.GCEPersistentDisk, specPath.Child("persistentDisk"))
	})
	one(s.AWSElasticBlockStore != nil, "awsElasticBlockStore", func(p *field.Path) field.ErrorList { return podspec.ValidateAWSDisk(s.AWSElasticBlockStore, p) })
	one(s.Glusterfs != nil, "glusterfs", func(p *field.Path) field.ErrorList {
		errs := append(check.Required(p.Child("endpoints"), s.Glusterfs.EndpointsName, ""), check.Required(p.Child("path"), s.Glusterfs.Path, "")...)
		if ns := s.Glusterfs.EndpointsNamespace; ns != nil && *ns == "" {
			errs = append(errs, field.Invalid(p.Child("endpointsNamespace"), *ns, "if the endpointnamespace is set, it must be a valid namespace name"))
		} else if ns != nil {
			errs = append(errs, check.Name(p.Child("endpointsNamespace"), *ns, validation.ValidateNamespaceName)...)
		}
		return errs
	})
	one(s.Flocker != nil, "flocker", func(p *field.Path) field.ErrorList { return podspec.ValidateFlocker(s.Flocker, p) })
	one(s.NFS != nil, "nfs", func(p *field.Path) field.ErrorList { return podspec.ValidateNFS(s.NFS, p) })
	one(s.RBD != nil, "rbd", func(p *field.Path) field.ErrorList { return podspec.ValidateRBD(s.RBD.CephMonitors, s.RBD.RBDImage, p) })
	one(s.Quobyte != nil, "quobyte", func(p *field.Path) field.ErrorList { return podspec.ValidateQuobyte(s.Quobyte, p) })
	one(s.CephFS != nil, "cephFS", func(*field.Path) field.ErrorList {
		return podspec.ValidateCephFS(s.CephFS.Monitors, specPath.Child("cephfs"))
	})
	one(s.ISCSI != nil, "iscsi", func(p *field.Path) field.ErrorList {
		target := podspec.ISCSI{
			Portal: s.ISCSI.TargetPortal, IQN: s.ISCSI.IQN, Lun: s.ISCSI.Lun, Initiator: s.ISCSI.InitiatorName,
			CHAP: s.ISCSI.DiscoveryCHAPAuth || s.ISCSI.SessionCHAPAuth, Volume: v.Name,
		}
		if s.ISCSI.SecretRef != nil {
			target.Secret = &s.ISCSI.SecretRef.Name
		}
		return podspec.ValidateISCSI(target, p)
	})
	one(s.Cinder != nil, "cinder", func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("volumeID"), s.Cinder.VolumeID, "")
		if s.Cinder.SecretRef != nil {
			errs = append(errs, requiredSecret(s.Cinder.SecretRef.Name, s.Cinder.SecretRef.Namespace, p.Child("secretRef"))...)
		}
		return errs
	})
	one(s.FC != nil, "fc", func(p *field.Path) field.ErrorList { return podspec.ValidateFC(s.FC, p) })
	if s.FlexVolume != nil { // upstream does not count it against another
		n++
		errs = append(errs, podspec.ValidateFlex(s.FlexVolume.Driver, s.FlexVolume.Options, specPath.Child("flexVolume"))...)
	}
	one(s.AzureFile != nil, "azureFile", func(p *field.Path) field.ErrorList {
		errs := append(check.Required(p.Child("secretName"), s.AzureFile.SecretName, ""), check.Required(p.Child("shareName"), s.AzureFile.ShareName, "")...)
		if ns := s.AzureFile.SecretNamespace; ns != nil {
			errs = append(errs, check.Required(p.Child("secretNamespace"), *ns, "")...)
		}
		return errs
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
	one(s.AzureDisk != nil, "azureDisk", func(p *field.Path) field.ErrorList { return podspec.ValidateAzureDisk(s.AzureDisk, p) })
	one(s.ScaleIO != nil, "scaleIO", func(p *field.Path) field.ErrorList {
		return podspec.ValidateScaleIO(s.ScaleIO.Gateway, s.ScaleIO.System, s.ScaleIO.VolumeName, p)
	})
	one(s.Local != nil, "local", func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("path"), s.Local.Path, "")
		errs = append(errs, check.NoBacksteps(p.Child("path"), s.Local.Path)...)
		if s.NodeAffinity == nil {
			errs = append(errs, field.Required(specPath.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
		return errs
	})
	one(s.StorageOS != nil, "storageos", func(p *field.Path) field.ErrorList {
		errs := podspec.ValidateStorageOS(s.StorageOS.VolumeName, s.StorageOS.VolumeNamespace, p)
		if s.StorageOS.SecretRef != nil {
			errs = append(errs, requiredSecret(s.StorageOS.SecretRef.Name, s.StorageOS.SecretRef.Namespace, p.Child("secretRef"))...)
		}
		return errs
	})
	one(s.CSI != nil, "csi", func(p *field.Path) field.ErrorList { return validateCSI(s.CSI, p) })
	if n == 0 {
		errs = append(errs, field.Required(specPath, "must specify a volume type"))
	}
	return errs
}

func requiredSecret(name, namespace string, path *field.Path) field.ErrorList {
	return append(check.Required(path.Child("name"), name, ""), check.Required(path.Child("namespace"), namespace, "")...)
}

func validateCSI(s *corev1.CSIPersistentVolumeSource, path *field.Path) field.ErrorList {
	errs := podspec.ValidateDriverName(s.Driver, path.Child("driver"))
	errs = append(errs, check.Required(path.Child("volumeHandle"), s.VolumeHandle, "")...)
	for _, r := range []struct { // upstream does not look at that for staging
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"nodeExpandSecretRef", s.NodeExpandSecretRef},
	} {
		if r.ref != nil {
			errs = append(errs, check.RequiredName(path.Child(r.name, "name"), r.ref.Name, utilvalidation.IsDNS1123Subdomain)...)
			errs = append(errs, check.RequiredName(path.Child(r.name, "namespace"), r.ref.Namespace, check.IsDNS1123Label)...)
		}
	}
	return errs
}

func validatePersistentVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	errs := validatePersistentVolume(v)
	is := v.Spec.PersistentVolumeSource.DeepCopy()
	// Expansion needs a secret that older volumes were made without.
	if was := old.Spec.CSI; is.CSI != nil && was != nil && was.ControllerExpandSecretRef == nil {
		is.CSI.ControllerExpandSecretRef = nil
	}
	if !equality.Semantic.DeepEqual(*is, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(old.Spec.PersistentVolumeSource, *is))))
	}
	errs = append(errs, check.Immutable(field.NewPath("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)...)
	if old.Spec.NodeAffinity != nil && !sameButForLabels(v.Spec.NodeAffinity, old.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), v.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	if old.Spec.VolumeAttributesClassName != nil && v.Spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(specPath.Child("volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// stableLabels are the labels of nodes by the names they had in beta.
var stableLabels = map[string]string{
	corev1.LabelFailureDomainBetaZone: corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	"beta.kubernetes.io/os": corev1.LabelOSStable, "beta.kubernetes.io/arch": corev1.LabelArchStable,
	corev1.LabelInstanceType: corev1.LabelInstanceTypeStable,
}

// sameButForLabels compares what nodes a volume is on, whatever name of the two a
// label now has.
func sameButForLabels(now, was *corev1.VolumeNodeAffinity) bool {
	was = was.DeepCopy()
	if now != nil && now.Required != nil && was.Required != nil {
		for i := range min(len(now.Required.NodeSelectorTerms), len(was.Required.NodeSelectorTerms)) {
			n, o := &now.Required.NodeSelectorTerms[i], &was.Required.NodeSelectorTerms[i]
			for _, l := range [][2][]corev1.NodeSelectorRequirement{{n.MatchExpressions, o.MatchExpressions}, {n.MatchFields, o.MatchFields}} {
				for j := range min(len(l[0]), len(l[1])) {
					if key := l[0][j].Key; stableLabels[l[1][j].Key] == key {
						l[1][j].Key = key
					}
				}
			}
		}
	}
	return equality.Semantic.DeepEqual(now, was)
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
