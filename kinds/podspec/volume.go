package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

const badMode = "must be a number between 0 and 0777 (octal), both inclusive"

func (v *validator) validateVolumes(path *field.Path) (errs field.ErrorList) {
	for i := range v.spec.Volumes {
		vol, p := &v.spec.Volumes[i], path.Index(i)
		bad := v.validateVolume(&vol.VolumeSource, p)
		if vol.Name == "" {
			bad = append(bad, field.Required(p.Child("name"), ""))
		} else {
			bad = append(bad, check.Rule(p.Child("name"), vol.Name, check.IsDNS1123Label)...)
		}
		if _, twice := v.volumes[vol.Name]; twice {
			bad = append(bad, field.Duplicate(p.Child("name"), vol.Name))
		}
		v.volumes[vol.Name] = &vol.VolumeSource
		errs = append(errs, bad...)
	}
	return errs
}

// validateVolume checks the one source that is set, and that it is one.
func (v *validator) validateVolume(s *corev1.VolumeSource, path *field.Path) (errs field.ErrorList) {
	n := 0
	one := func(set bool, name string, check func(*field.Path) field.ErrorList) {
		if !set {
			return
		}
		p := path.Child(name)
		if n > 0 {
			errs = append(errs, field.Forbidden(p, "may not specify more than 1 volume type"))
			return
		}
		n++
		errs = append(errs, check(p)...)
	}
	fixed := func(e field.ErrorList) func(*field.Path) field.ErrorList {
		return func(*field.Path) field.ErrorList { return e }
	}
	one(s.EmptyDir != nil, "emptyDir", func(p *field.Path) field.ErrorList {
		if q := s.EmptyDir.SizeLimit; q != nil && q.Sign() < 0 {
			return field.ErrorList{field.Forbidden(p.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
		}
		return nil
	})
	one(s.HostPath != nil, "hostPath", func(p *field.Path) field.ErrorList { return ValidateHostPath(s.HostPath, p) })
	one(s.GitRepo != nil, "gitRepo", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("repository"), s.GitRepo.Repository, ""), check.RelativePath(p.Child("directory"), s.GitRepo.Directory)...)
	})
	one(s.GCEPersistentDisk != nil, "gcePersistentDisk", func(p *field.Path) field.ErrorList { return ValidateGCEDisk(s.GCEPersistentDisk, p) })
	one(s.AWSElasticBlockStore != nil, "awsElasticBlockStore", func(p *field.Path) field.ErrorList {
		return ValidateAWSDisk(s.AWSElasticBlockStore, p)
	})
	one(s.Secret != nil, "secret", func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("secretName"), s.Secret.SecretName, "")
		errs = append(errs, validateMode(p.Child("defaultMode"), s.Secret.DefaultMode)...)
		return append(errs, validateItems(s.Secret.Items, p.Child("items"))...)
	})
	one(s.NFS != nil, "nfs", func(p *field.Path) field.ErrorList { return ValidateNFS(s.NFS, p) })
	one(s.ISCSI != nil, "iscsi", func(p *field.Path) field.ErrorList {
		return ValidateISCSI(s.ISCSI.TargetPortal, s.ISCSI.IQN, s.ISCSI.Lun, s.ISCSI.InitiatorName, p)
	})
	one(s.Glusterfs != nil, "glusterfs", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("endpoints"), s.Glusterfs.EndpointsName, ""), check.Required(p.Child("path"), s.Glusterfs.Path, "")...)
	})
	one(s.PersistentVolumeClaim != nil, "persistentVolumeClaim", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("claimName"), s.PersistentVolumeClaim.ClaimName, "")
	})
	one(s.RBD != nil, "rbd", func(p *field.Path) field.ErrorList { return ValidateRBD(s.RBD.CephMonitors, s.RBD.RBDImage, p) })
	one(s.FlexVolume != nil, "flexVolume", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("driver"), s.FlexVolume.Driver, "")
	})
	one(s.Cinder != nil, "cinder", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("volumeID"), s.Cinder.VolumeID, "")
	})
	one(s.CephFS != nil, "cephfs", func(p *field.Path) field.ErrorList { return ValidateCephFS(s.CephFS.Monitors, p) })
	one(s.Flocker != nil, "flocker", fixed(nil))
	one(s.DownwardAPI != nil, "downwardAPI", func(p *field.Path) field.ErrorList {
		return append(validateMode(p.Child("defaultMode"), s.DownwardAPI.DefaultMode), validateDownward(s.DownwardAPI.Items, p)...)
	})
	one(s.FC != nil, "fc", func(p *field.Path) field.ErrorList { return ValidateFC(s.FC, p) })
	one(s.AzureFile != nil, "azureFile", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("secretName"), s.AzureFile.SecretName, ""), check.Required(p.Child("shareName"), s.AzureFile.ShareName, "")...)
	})
	one(s.ConfigMap != nil, "configMap", func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("name"), s.ConfigMap.Name, "")
		errs = append(errs, validateMode(p.Child("defaultMode"), s.ConfigMap.DefaultMode)...)
		return append(errs, validateItems(s.ConfigMap.Items, p.Child("items"))...)
	})
	one(s.VsphereVolume != nil, "vsphereVolume", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("volumePath"), s.VsphereVolume.VolumePath, "")
	})
	one(s.Quobyte != nil, "quobyte", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("registry"), s.Quobyte.Registry, "must be a host:port pair or multiple pairs separated by commas"), check.Required(p.Child("volume"), s.Quobyte.Volume, "")...)
	})
	one(s.AzureDisk != nil, "azureDisk", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("diskName"), s.AzureDisk.DiskName, ""), check.Required(p.Child("diskURI"), s.AzureDisk.DataDiskURI, "")...)
	})
	one(s.PhotonPersistentDisk != nil, "photonPersistentDisk", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("pdID"), s.PhotonPersistentDisk.PdID, "")
	})
	one(s.Projected != nil, "projected", func(p *field.Path) field.ErrorList { return validateProjected(s.Projected, p) })
	one(s.PortworxVolume != nil, "portworxVolume", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("volumeID"), s.PortworxVolume.VolumeID, "")
	})
	one(s.ScaleIO != nil, "scaleIO", func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("gateway"), s.ScaleIO.Gateway, "")
		errs = append(errs, check.Required(p.Child("system"), s.ScaleIO.System, "")...)
		return append(errs, check.Required(p.Child("volumeName"), s.ScaleIO.VolumeName, "")...)
	})
	one(s.StorageOS != nil, "storageos", func(p *field.Path) field.ErrorList {
		return check.RequiredName(p.Child("volumeName"), s.StorageOS.VolumeName, check.IsDNS1123Label)
	})
	one(s.CSI != nil, "csi", func(p *field.Path) field.ErrorList {
		errs := ValidateDriverName(s.CSI.Driver, p.Child("driver"))
		if s.CSI.NodePublishSecretRef != nil {
			errs = append(errs, check.Required(p.Child("nodePublishSecretRef", "name"), s.CSI.NodePublishSecretRef.Name, "")...)
		}
		return errs
	})
	one(s.Ephemeral != nil, "ephemeral", func(p *field.Path) field.ErrorList {
		if s.Ephemeral.VolumeClaimTemplate == nil {
			return field.ErrorList{field.Required(p.Child("volumeClaimTemplate"), "")}
		}
		t, p := s.Ephemeral.VolumeClaimTemplate, p.Child("volumeClaimTemplate")
		errs := metav1validation.ValidateLabels(t.Labels, p.Child("metadata", "labels"))
		errs = append(errs, validation.ValidateAnnotations(t.Annotations, p.Child("metadata", "annotations"))...)
		return append(errs, ValidateClaim(&t.Spec, p.Child("spec"))...)
	})
	one(s.Image != nil, "image", func(p *field.Path) field.ErrorList {
		var errs field.ErrorList
		if v.Pod && s.Image.Reference == "" {
			errs = append(errs, field.Required(p.Child("reference"), ""))
		}
		return append(errs, check.RequiredOneOf(p.Child("pullPolicy"), s.Image.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	})
	if n == 0 {
		errs = append(errs, field.Required(path, "must specify a volume type"))
	}
	return errs
}

func validateMode(path *field.Path, mode *int32) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		return field.ErrorList{field.Invalid(path, *mode, badMode)}
	}
	return nil
}

func validateItems(items []corev1.KeyToPath, path *field.Path) (errs field.ErrorList) {
	for i, item := range items {
		p := path.Index(i)
		errs = append(errs, check.Required(p.Child("key"), item.Key, "")...)
		errs = append(errs, check.Required(p.Child("path"), item.Path, "")...)
		errs = append(errs, check.OwnPath(p.Child("path"), item.Path)...)
		errs = append(errs, validateMode(p.Child("mode"), item.Mode)...)
	}
	return errs
}

func validateDownward(items []corev1.DownwardAPIVolumeFile, path *field.Path) (errs field.ErrorList) {
	for i := range items {
		errs = append(errs, validateDownwardFile(&items[i], path)...)
	}
	return errs
}

func validateDownwardFile(f *corev1.DownwardAPIVolumeFile, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, check.Required(path.Child("path"), f.Path, "")...)
	errs = append(errs, check.OwnPath(path.Child("path"), f.Path)...)
	switch {
	case f.FieldRef != nil:
		errs = append(errs, validateFieldRef(f.FieldRef, volumeFields, path.Child("fieldRef"))...)
		if f.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case f.ResourceFieldRef != nil:
		errs = append(errs, validateResourceRef(f.ResourceFieldRef, true, path.Child("resourceFieldRef"))...)
	default:
		errs = append(errs, field.Required(path, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, validateMode(path.Child("mode"), f.Mode)...)
}

func validateProjected(s *corev1.ProjectedVolumeSource, path *field.Path) field.ErrorList {
	errs := validateMode(path.Child("defaultMode"), s.DefaultMode)
	paths := map[string]bool{}
	// once reports a path that an earlier source writes already.
	once := func(file, owner string, p *field.Path) {
		if file == "" {
			return
		}
		if paths[file] {
			errs = append(errs, field.Invalid(p, owner, "conflicting duplicate paths"))
		}
		paths[file] = true
	}
	for i := range s.Sources {
		src, p := &s.Sources[i], path.Child("sources").Index(i)
		n := 0
		one := func(set bool, check func()) {
			if !set {
				return
			}
			if n > 0 {
				errs = append(errs, field.Forbidden(p, "may not specify more than 1 volume type per source"))
				return
			}
			n++
			check()
		}
		one(src.Secret != nil, func() {
			p := p.Child("secret")
			errs = append(errs, check.Required(p.Child("name"), src.Secret.Name, "")...)
			errs = append(errs, validateItems(src.Secret.Items, p.Child("items"))...)
			for _, item := range src.Secret.Items {
				once(item.Path, src.Secret.Name, p)
			}
		})
		one(src.ConfigMap != nil, func() {
			p := p.Child("configMap")
			errs = append(errs, check.Required(p.Child("name"), src.ConfigMap.Name, "")...)
			errs = append(errs, validateItems(src.ConfigMap.Items, p.Child("items"))...)
			for _, item := range src.ConfigMap.Items {
				once(item.Path, src.ConfigMap.Name, p)
			}
		})
		one(src.DownwardAPI != nil, func() {
			p := p.Child("downwardAPI")
			errs = append(errs, validateDownward(src.DownwardAPI.Items, p)...)
			for _, item := range src.DownwardAPI.Items {
				once(item.Path, item.Path, p)
			}
		})
		one(src.ServiceAccountToken != nil, func() {
			t, p := src.ServiceAccountToken, p.Child("serviceAccountToken")
			if n := t.ExpirationSeconds; n != nil {
				if *n < 10*60 {
					errs = append(errs, field.Invalid(p.Child("expirationSeconds"), *n, "may not specify a duration less than 10 minutes"))
				}
				if *n > 1<<32 {
					errs = append(errs, field.Invalid(p.Child("expirationSeconds"), *n, "may not specify a duration larger than 2^32 seconds"))
				}
			}
			if t.Path == "" {
				errs = append(errs, field.Required(p.Child("path"), ""))
			} else {
				errs = append(errs, check.OwnPath(p.Child("path"), t.Path)...)
			}
			once(t.Path, t.Path, p)
		})
		one(src.ClusterTrustBundle != nil, func() {
			c, p := src.ClusterTrustBundle, p.Child("clusterTrustBundle")
			switch {
			case c.Name != nil && c.SignerName != nil:
				errs = append(errs, field.Invalid(p, c, "only one of name and signerName may be used"))
			case c.Name != nil && *c.Name == "", c.Name == nil && c.SignerName == nil:
				errs = append(errs, field.Required(p, "either name or signerName must be specified"))
			case c.Name != nil && c.LabelSelector != nil:
				errs = append(errs, field.Invalid(p.Child("labelSelector"), c.LabelSelector, "labelSelector must be unset if name is specified"))
			}
			errs = append(errs, metav1validation.ValidateLabelSelector(c.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, p.Child("labelSelector"))...)
			if c.Path == "" {
				errs = append(errs, field.Required(p.Child("path"), ""))
			} else {
				errs = append(errs, check.OwnPath(p.Child("path"), c.Path)...)
			}
			once(c.Path, c.Path, p)
		})
		one(src.PodCertificate != nil, func() {
			c, p := src.PodCertificate, p.Child("podCertificate")
			errs = append(errs, check.Required(p.Child("signerName"), c.SignerName, "")...)
			errs = append(errs, check.RequiredOneOf(p.Child("keyType"), c.KeyType, "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")...)
			if c.CredentialBundlePath == "" && c.KeyPath == "" && c.CertificateChainPath == "" {
				errs = append(errs, field.Required(p, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
			}
			for _, f := range []struct{ name, path string }{
				{"credentialBundlePath", c.CredentialBundlePath}, {"keyPath", c.KeyPath}, {"certificateChainPath", c.CertificateChainPath},
			} {
				if f.path != "" {
					errs = append(errs, check.OwnPath(p.Child(f.name), f.path)...)
					once(f.path, f.path, p.Child(f.name))
				}
			}
			if n := c.MaxExpirationSeconds; n != nil && (*n < 3600 || *n > 91*24*3600) {
				errs = append(errs, field.Invalid(p.Child("maxExpirationSeconds"), *n, "if provided, maxExpirationSeconds must be between 3600 and 7862400"))
			}
		})
	}
	return errs
}

func (v *validator) validateMounts(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	paths := map[string]bool{}
	for i, m := range c.VolumeMounts {
		p := path.Index(i)
		errs = append(errs, check.Required(p.Child("name"), m.Name, "")...)
		if _, ok := v.volumes[m.Name]; !ok {
			errs = append(errs, field.NotFound(p.Child("name"), m.Name))
		}
		errs = append(errs, check.Required(p.Child("mountPath"), m.MountPath, "")...)
		if paths[m.MountPath] {
			errs = append(errs, field.Invalid(p.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths[m.MountPath] = true
		for _, d := range c.VolumeDevices {
			if d.Name == m.Name {
				errs = append(errs, field.Invalid(p.Child("name"), m.Name, "must not already exist in volumeDevices"))
			}
			if d.DevicePath == m.MountPath {
				errs = append(errs, field.Invalid(p.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
			}
		}
		if m.SubPath != "" {
			errs = append(errs, check.RelativePath(p.Child("subPath"), m.SubPath)...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(p.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, check.RelativePath(p.Child("subPathExpr"), m.SubPathExpr)...)
		}
		errs = append(errs, validatePropagation(m, c, p)...)
	}
	return errs
}

func validatePropagation(m corev1.VolumeMount, c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	if mode := m.MountPropagation; mode != nil {
		p := path.Child("mountPropagation")
		errs = append(errs, check.OneOf(p, *mode, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
		privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
		if *mode == corev1.MountPropagationBidirectional && !privileged {
			errs = append(errs, field.Forbidden(p, "Bidirectional mount propagation is available only to privileged containers"))
		}
	}
	if mode := m.RecursiveReadOnly; mode != nil && *mode != corev1.RecursiveReadOnlyDisabled {
		p := path.Child("recursiveReadOnly")
		switch *mode {
		case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible:
			if !m.ReadOnly {
				errs = append(errs, field.Forbidden(p, "may only be specified when readOnly is true"))
			}
			if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
				errs = append(errs, field.Forbidden(p, "may only be specified when mountPropagation is None or not specified"))
			}
		default:
			errs = append(errs, field.NotSupported(p, *mode, []corev1.RecursiveReadOnlyMode{
				corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled}))
		}
	}
	return errs
}

func (v *validator) validateDevices(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	paths, names := map[string]bool{}, map[string]bool{}
	for i, d := range c.VolumeDevices {
		p := path.Index(i)
		errs = append(errs, check.Required(p.Child("name"), d.Name, "")...)
		if names[d.Name] {
			errs = append(errs, field.Invalid(p.Child("name"), d.Name, "must be unique"))
		}
		names[d.Name] = true
		source, ok := v.volumes[d.Name]
		switch {
		case !ok:
			errs = append(errs, field.NotFound(p.Child("name"), d.Name))
		case source.PersistentVolumeClaim == nil && source.Ephemeral == nil:
			errs = append(errs, field.Invalid(p.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		errs = append(errs, check.Required(p.Child("devicePath"), d.DevicePath, "")...)
		if paths[d.DevicePath] {
			errs = append(errs, field.Invalid(p.Child("devicePath"), d.DevicePath, "must be unique"))
		}
		paths[d.DevicePath] = true
		if d.DevicePath != "" {
			errs = append(errs, check.NoBacksteps(p.Child("devicePath"), d.DevicePath)...)
		}
	}
	return errs
}

// ValidateClaimNames reports ephemeral volumes whose claim could not be named.
func ValidateClaimNames(p *corev1.Pod, path *field.Path) (errs field.ErrorList) {
	if p.Name == "" {
		return nil
	}
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Ephemeral == nil {
			continue
		}
		name := p.Name + "-" + p.Spec.Volumes[i].Name
		for _, msg := range utilvalidation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(path.Child("volumes").Index(i).Child("name"), p.Spec.Volumes[i].Name, fmt.Sprintf("PVC name %q: %v", name, msg)))
		}
	}
	return errs
}
