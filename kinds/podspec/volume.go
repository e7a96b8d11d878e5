package podspec

import (
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/signer"
)

const badMode = "must be a number between 0 and 0777 (octal), both inclusive"

func (v *validator) validateVolumes(path *field.Path) (errs field.ErrorList) {
	var made map[string]bool // claims that will be made for ephemeral volumes
	for i := range v.spec.Volumes {
		vol := &v.spec.Volumes[i]
		if vol.Ephemeral != nil && v.Pod != nil && v.Pod.Name != "" {
			if made == nil {
				made = map[string]bool{}
			}
			made[v.Pod.Name+"-"+vol.Name] = true
		}
	}
	for i := range v.spec.Volumes {
		vol, p := &v.spec.Volumes[i], path.Index(i)
		bad := v.validateVolume(vol, p)
		bad = append(bad, check.RequiredName(p.Child("name"), vol.Name, check.IsDNS1123Label)...)
		if _, twice := v.volumes[vol.Name]; twice {
			bad = append(bad, field.Duplicate(p.Child("name"), vol.Name))
		}
		// A volume that is refused cannot be mounted either.
		if len(bad) == 0 {
			v.volumes[vol.Name] = &vol.VolumeSource
		}
		errs = append(errs, bad...)
		if c := vol.PersistentVolumeClaim; c != nil && made[c.ClaimName] {
			errs = append(errs, field.Invalid(p.Child("persistentVolumeClaim", "claimName"), c.ClaimName, "must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return errs
}

// validateVolume checks the one source that is set, and that it is one.
func (v *validator) validateVolume(vol *corev1.Volume, path *field.Path) (errs field.ErrorList) {
	s, n := &vol.VolumeSource, 0
	one := func(set bool, name string, check func(*field.Path) field.ErrorList) {
		if !set {
			return
		}
		if n > 0 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 volume type"))
			return
		}
		n++
		errs = append(errs, check(path.Child(name))...)
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
	// Where a source is blamed under another name than its own, it is upstream's.
	one(s.GCEPersistentDisk != nil, "gcePersistentDisk", func(*field.Path) field.ErrorList {
		return ValidateGCEDisk(s.GCEPersistentDisk, path.Child("persistentDisk"))
	})
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
		return ValidateISCSI(ISCSI{
			Portal: s.ISCSI.TargetPortal, IQN: s.ISCSI.IQN, Lun: s.ISCSI.Lun, Initiator: s.ISCSI.InitiatorName,
			CHAP: s.ISCSI.DiscoveryCHAPAuth || s.ISCSI.SessionCHAPAuth, Secret: secretName(s.ISCSI.SecretRef),
		}, p)
	})
	if s.ISCSI != nil && s.ISCSI.InitiatorName != nil && len(vol.Name+":"+s.ISCSI.TargetPortal) > 64 {
		errs = append(errs, field.Invalid(path.Child("name"), vol.Name, longISCSI))
	}
	one(s.Glusterfs != nil, "glusterfs", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("endpoints"), s.Glusterfs.EndpointsName, ""), check.Required(p.Child("path"), s.Glusterfs.Path, "")...)
	})
	one(s.Flocker != nil, "flocker", func(p *field.Path) field.ErrorList { return ValidateFlocker(s.Flocker, p) })
	one(s.PersistentVolumeClaim != nil, "persistentVolumeClaim", func(p *field.Path) field.ErrorList {
		return check.Required(p.Child("claimName"), s.PersistentVolumeClaim.ClaimName, "")
	})
	one(s.RBD != nil, "rbd", func(p *field.Path) field.ErrorList { return ValidateRBD(s.RBD.CephMonitors, s.RBD.RBDImage, p) })
	one(s.Cinder != nil, "cinder", func(p *field.Path) field.ErrorList {
		return append(check.Required(p.Child("volumeID"), s.Cinder.VolumeID, ""), requiredSecret(s.Cinder.SecretRef, p.Child("secretRef"))...)
	})
	one(s.CephFS != nil, "cephFS", func(*field.Path) field.ErrorList { return ValidateCephFS(s.CephFS.Monitors, path.Child("cephfs")) })
	one(s.Quobyte != nil, "quobyte", func(p *field.Path) field.ErrorList { return ValidateQuobyte(s.Quobyte, p) })
	one(s.DownwardAPI != nil, "downwarAPI", func(*field.Path) field.ErrorList {
		p := path.Child("downwardAPI")
		return append(validateMode(p.Child("defaultMode"), s.DownwardAPI.DefaultMode), validateDownward(s.DownwardAPI.Items, p)...)
	})
	one(s.FC != nil, "fc", func(p *field.Path) field.ErrorList { return ValidateFC(s.FC, p) })
	one(s.FlexVolume != nil, "flexVolume", func(p *field.Path) field.ErrorList {
		return ValidateFlex(s.FlexVolume.Driver, s.FlexVolume.Options, p)
	})
	one(s.ConfigMap != nil, "configMap", func(p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("name"), s.ConfigMap.Name, "")
		errs = append(errs, validateMode(p.Child("defaultMode"), s.ConfigMap.DefaultMode)...)
		return append(errs, validateItems(s.ConfigMap.Items, p.Child("items"))...)
	})
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
	one(s.AzureDisk != nil, "azureDisk", func(p *field.Path) field.ErrorList { return ValidateAzureDisk(s.AzureDisk, p) })
	one(s.StorageOS != nil, "storageos", func(p *field.Path) field.ErrorList {
		return append(ValidateStorageOS(s.StorageOS.VolumeName, s.StorageOS.VolumeNamespace, p), requiredSecret(s.StorageOS.SecretRef, p.Child("secretRef"))...)
	})
	one(s.Projected != nil, "projected", func(p *field.Path) field.ErrorList { return validateProjected(s.Projected, p) })
	one(s.ScaleIO != nil, "scaleIO", func(p *field.Path) field.ErrorList {
		return ValidateScaleIO(s.ScaleIO.Gateway, s.ScaleIO.System, s.ScaleIO.VolumeName, p)
	})
	one(s.CSI != nil, "csi", func(p *field.Path) field.ErrorList {
		errs := ValidateDriverName(s.CSI.Driver, p.Child("driver"))
		if ref := s.CSI.NodePublishSecretRef; ref != nil && ref.Name == "" {
			errs = append(errs, field.Required(p.Child("nodePublishSecretRef", "name"), ""))
		} else if ref != nil {
			errs = append(errs, check.Name(p.Child("name"), ref.Name, validation.NameIsDNSSubdomain)...)
		}
		return errs
	})
	one(s.Ephemeral != nil, "ephemeral", func(p *field.Path) field.ErrorList {
		if s.Ephemeral.VolumeClaimTemplate == nil {
			return field.ErrorList{field.Required(p.Child("volumeClaimTemplate"), "")}
		}
		t, p := s.Ephemeral.VolumeClaimTemplate, p.Child("volumeClaimTemplate")
		return append(validateClaimMeta(&t.ObjectMeta, p.Child("metadata")), ValidateClaim(&t.Spec, p.Child("spec"))...)
	})
	if s.Ephemeral != nil && n == 1 && v.Pod != nil && v.Pod.Name != "" && vol.Name != "" {
		claim := v.Pod.Name + "-" + vol.Name
		for _, msg := range utilvalidation.IsDNS1123Subdomain(claim) {
			errs = append(errs, field.Invalid(path.Child("name"), vol.Name, fmt.Sprintf("PVC name %q: %v", claim, msg)))
		}
	}
	one(s.Image != nil, "image", func(p *field.Path) field.ErrorList {
		var errs field.ErrorList
		if v.Pod != nil && s.Image.Reference == "" {
			errs = append(errs, field.Required(p.Child("reference"), ""))
		}
		return append(errs, check.RequiredOneOf(p.Child("pullPolicy"), s.Image.PullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	})
	if n == 0 {
		errs = append(errs, field.Required(path, "must specify a volume type"))
	}
	return errs
}

func secretName(ref *corev1.LocalObjectReference) *string {
	if ref == nil {
		return nil
	}
	return &ref.Name
}

func requiredSecret(ref *corev1.LocalObjectReference, path *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return check.Required(path.Child("name"), ref.Name, "")
}

// validateClaimMeta checks the metadata of a claim's template, which may have
// annotations and labels only.
func validateClaimMeta(m *metav1.ObjectMeta, path *field.Path) field.ErrorList {
	errs := validation.ValidateAnnotations(m.Annotations, path.Child("annotations").Upstream())
	errs = append(errs, metav1validation.ValidateLabels(m.Labels, path.Child("labels").Upstream())...)
	v := reflect.ValueOf(*m)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Annotations" && name != "Labels" && !v.Field(i).IsZero() {
			errs = append(errs, field.Forbidden(path.Child(strings.ToLower(name[:1])+name[1:]), "cannot be set"))
		}
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
	for i := range items {
		errs = append(errs, validateItem(&items[i], path.Index(i))...)
	}
	return errs
}

func validateItem(item *corev1.KeyToPath, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("key"), item.Key, "")
	errs = append(errs, check.Required(path.Child("path"), item.Path, "")...)
	errs = append(errs, check.OwnPath(path.Child("path"), item.Path)...)
	return append(errs, validateMode(path.Child("mode"), item.Mode)...)
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
	once := func(file, owner string) {
		if paths[file] {
			errs = append(errs, field.Invalid(path, owner, "conflicting duplicate paths"))
		}
		paths[file] = true
	}
	items := func(list []corev1.KeyToPath, owner string, p *field.Path) {
		errs = append(errs, check.Required(p.Child("name"), owner, "")...)
		for i := range list {
			errs = append(errs, validateItem(&list[i], p.Child("items").Index(i))...)
			if list[i].Path != "" {
				once(list[i].Path, owner)
			}
		}
	}
	for i := range s.Sources {
		src, p := &s.Sources[i], path.Child("sources").Index(i)
		n := 0
		if src.Secret != nil {
			n++
			items(src.Secret.Items, src.Secret.Name, p.Child("secret"))
		}
		if src.ConfigMap != nil {
			n++
			items(src.ConfigMap.Items, src.ConfigMap.Name, p.Child("configMap"))
		}
		if src.DownwardAPI != nil {
			n++
			for j := range src.DownwardAPI.Items {
				f := &src.DownwardAPI.Items[j]
				errs = append(errs, validateDownwardFile(f, p.Child("downwardAPI"))...)
				if f.Path != "" {
					once(f.Path, f.Path)
				}
			}
		}
		if src.ServiceAccountToken != nil {
			n++
			errs = append(errs, validateToken(src.ServiceAccountToken, p.Child("serviceAccountToken"), path.Child("path"))...)
		}
		if c := src.ClusterTrustBundle; c != nil {
			n++
			errs = append(errs, validateTrust(c, p.Child("clusterTrustBundle"))...)
			once(c.Path, c.Path)
		}
		if c := src.PodCertificate; c != nil {
			n++
			p := p.Child("podCertificate")
			errs = append(errs, validateCertificate(c, p)...)
			for _, f := range []struct{ name, path string }{
				{"credentialBundlePath", c.CredentialBundlePath}, {"keyPath", c.KeyPath}, {"certificateChainPath", c.CertificateChainPath},
			} {
				if f.path != "" {
					errs = append(errs, check.OwnPath(p.Child(f.name), f.path)...)
					once(f.path, f.path)
				}
			}
			if c.CredentialBundlePath == "" && c.KeyPath == "" && c.CertificateChainPath == "" {
				errs = append(errs, field.Required(p, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
			}
		}
		if n > 1 {
			errs = append(errs, field.Forbidden(p, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

// validateToken checks a projected token; file is the path its own path is
// blamed under, which upstream has outside the source.
func validateToken(t *corev1.ServiceAccountTokenProjection, path, file *field.Path) (errs field.ErrorList) {
	if n := t.ExpirationSeconds; n != nil {
		if *n < 10*60 {
			errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *n, "may not specify a duration less than 10 minutes"))
		}
		if *n > 1<<32 {
			errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *n, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	if t.Path == "" {
		return append(errs, field.Required(file, ""))
	}
	return append(errs, check.OwnPath(file, t.Path)...)
}

func validateTrust(c *corev1.ClusterTrustBundleProjection, path *field.Path) (errs field.ErrorList) {
	switch {
	case c.Name != nil && c.SignerName != nil:
		errs = append(errs, field.Invalid(path, c, "only one of name and signerName may be used"))
	case c.Name != nil:
		p := path.Child("name")
		errs = append(errs, check.Required(p, *c.Name, "must be a valid object name")...)
		for _, msg := range signer.BundleName(*c.Name, signer.OfBundle(*c.Name), false) {
			errs = append(errs, field.Invalid(p, *c.Name, "not a valid clustertrustbundlename: "+msg))
		}
		if c.LabelSelector != nil {
			errs = append(errs, field.Invalid(path.Child("labelSelector"), c.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case c.SignerName != nil:
		p := path.Child("signerName")
		errs = append(errs, check.Required(p, *c.SignerName, "must be a valid signer name")...)
		errs = append(errs, signer.Validate(p, *c.SignerName)...)
		errs = append(errs, metav1validation.ValidateLabelSelector(c.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, path.Child("labelSelector").Upstream())...)
	default:
		errs = append(errs, field.Required(path, "either name or signerName must be specified"))
	}
	if c.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, check.OwnPath(path.Child("path"), c.Path)...)
}

// validateCertificate checks what a pod's certificate is to be; its files are
// the caller's to check.
func validateCertificate(c *corev1.PodCertificateProjection, path *field.Path) field.ErrorList {
	errs := signer.Validate(path.Child("signerName"), c.SignerName)
	errs = append(errs, signer.UserAnnotations(path.Child("userAnnotations"), c.UserAnnotations)...)
	errs = append(errs, check.Listed(path.Child("keyType"), c.KeyType, "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")...)
	if n := c.MaxExpirationSeconds; n != nil {
		p := path.Child("maxExpirationSeconds")
		if *n < signer.MinExpirationSeconds {
			errs = append(errs, field.Invalid(p, *n, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", signer.MinExpirationSeconds)))
		}
		if most := signer.MaxExpirationSeconds(c.SignerName); *n > most {
			errs = append(errs, field.Invalid(p, *n, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", most)))
		}
	}
	return errs
}

// validateMounts blames paths and modes under the list as a whole, as upstream
// does.
func (v *validator) validateMounts(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	devices := map[string]string{}
	for _, d := range c.VolumeDevices {
		devices[d.Name] = d.DevicePath
	}
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
		if _, ok := devices[m.Name]; ok {
			errs = append(errs, field.Invalid(p.Child("name"), m.Name, "must not already exist in volumeDevices"))
		}
		if hasValue(devices, m.MountPath) {
			errs = append(errs, field.Invalid(p.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
		}
		if m.SubPath != "" {
			errs = append(errs, check.RelativePath(path.Child("subPath"), m.SubPath)...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(p.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, check.RelativePath(path.Child("subPathExpr"), m.SubPathExpr)...)
		}
		errs = append(errs, validatePropagation(m, c, path)...)
	}
	return errs
}

func hasValue(m map[string]string, want string) bool {
	for _, v := range m {
		if v == want {
			return true
		}
	}
	return false
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
				corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible}))
		}
	}
	return errs
}

func (v *validator) validateDevices(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	mounts := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = m.MountPath
	}
	paths, names := map[string]bool{}, map[string]bool{}
	for i, d := range c.VolumeDevices {
		p := path.Index(i)
		errs = append(errs, check.Required(p.Child("name"), d.Name, "")...)
		if names[d.Name] {
			errs = append(errs, field.Invalid(p.Child("name"), d.Name, "must be unique"))
		}
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
		if len(check.NoBacksteps(path, d.DevicePath)) > 0 {
			errs = append(errs, field.Invalid(p.Child("devicePath"), d.DevicePath, "can not contain backsteps ('..')"))
		} else {
			paths[d.DevicePath] = true
		}
		if _, ok := mounts[d.Name]; ok {
			errs = append(errs, field.Invalid(p.Child("name"), d.Name, "must not already exist in volumeMounts"))
		}
		if hasValue(mounts, d.DevicePath) {
			errs = append(errs, field.Invalid(p.Child("devicePath"), d.DevicePath, "must not already exist as a path in volumeMounts"))
		}
		if d.Name != "" {
			names[d.Name] = true
		}
	}
	return errs
}
