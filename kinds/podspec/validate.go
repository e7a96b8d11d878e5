package podspec

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// Options say where a specification stands.
type Options struct {
	// Pod is the metadata of a pod, nil for a template.
	Pod *metav1.ObjectMeta
}

// validator carries what the parts of one specification must know of the whole.
type validator struct {
	Options
	spec    *corev1.PodSpec
	volumes map[string]*corev1.VolumeSource
	claims  map[string]bool
}

// ValidateTemplate checks a pod template.
func ValidateTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabels(t.Labels, path.Child("labels").Upstream())
	if len(t.Annotations) > 0 {
		p := path.Child("annotations")
		errs = append(errs, validation.ValidateAnnotations(t.Annotations, p.Upstream())...)
		errs = append(errs, ValidateAnnotations(t.Annotations, &t.Spec, p)...)
	}
	p := path.Child("spec")
	errs = append(errs, Validate(&t.Spec, p, Options{})...)
	errs = append(errs, ValidateProfiles(t.Annotations, &t.Spec, p)...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(p.Child("ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// Validate checks a pod's specification, in upstream's order.
func Validate(s *corev1.PodSpec, path *field.Path, o Options) field.ErrorList {
	v := &validator{Options: o, spec: s, volumes: map[string]*corev1.VolumeSource{}, claims: map[string]bool{}}
	errs := v.validateVolumes(path.Child("volumes"))
	if len(s.ResourceClaims) > 0 {
		errs = append(errs, v.validateResourceClaims(path.Child("resourceClaims"))...)
	}
	errs = append(errs, v.validateContainers(path)...)
	if s.Resources != nil {
		errs = append(errs, validatePodResources(s, path.Child("resources"))...)
	}
	errs = append(errs, v.validateHostPorts(path)...)
	errs = append(errs, check.RequiredListed(path.Child("restartPolicy"), s.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, check.RequiredListed(path.Child("dnsPolicy"), s.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)...)
	if len(s.NodeSelector) > 0 {
		errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector").Upstream())...)
	}
	errs = append(errs, validatePodSecurity(s, path.Child("securityContext"))...)
	if s.Affinity != nil {
		errs = append(errs, validateAffinity(s.Affinity, path.Child("affinity"))...)
	}
	if s.DNSConfig != nil || s.DNSPolicy == corev1.DNSNone {
		errs = append(errs, validateDNS(s.DNSConfig, s.DNSPolicy, path.Child("dnsConfig"))...)
	}
	for i, g := range s.ReadinessGates {
		errs = append(errs, check.Rule(path.Child("readinessGates").Index(i).Child("conditionType"), string(g.ConditionType), check.IsQualifiedName)...)
	}
	if len(s.SchedulingGates) > 0 {
		errs = append(errs, validateGates(s.SchedulingGates, path.Child("schedulingGates"))...)
	}
	if len(s.TopologySpreadConstraints) > 0 {
		errs = append(errs, validateSpread(s.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	}
	errs = append(errs, validateHostProcess(s, path)...)
	errs = append(errs, validateHostUsers(s, path)...)
	errs = append(errs, validateHostnameOverride(s, path)...)
	if s.ServiceAccountName != "" {
		errs = append(errs, check.Name(path.Child("serviceAccountName"), s.ServiceAccountName, validation.ValidateServiceAccountName)...)
	}
	if s.NodeName != "" {
		errs = append(errs, check.Name(path.Child("nodeName"), s.NodeName, validation.NameIsDNSSubdomain)...)
	}
	if n := s.ActiveDeadlineSeconds; n != nil && (*n < 1 || *n > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *n, utilvalidation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if s.Hostname != "" {
		errs = append(errs, check.Rule(path.Child("hostname"), s.Hostname, check.IsDNS1123Label)...)
	}
	if s.Subdomain != "" {
		errs = append(errs, check.Rule(path.Child("subdomain"), s.Subdomain, check.IsDNS1123Label)...)
	}
	if len(s.Tolerations) > 0 {
		errs = append(errs, ValidateTolerations(s.Tolerations, path.Child("tolerations"))...)
	}
	if len(s.HostAliases) > 0 {
		errs = append(errs, validateHostAliases(s.HostAliases, path.Child("hostAliases"))...)
	}
	if s.PriorityClassName != "" {
		errs = append(errs, check.Name(path.Child("priorityClassName"), s.PriorityClassName, validation.NameIsDNSSubdomain)...)
	}
	if s.RuntimeClassName != nil {
		errs = append(errs, check.Name(path.Child("runtimeClassName"), *s.RuntimeClassName, validation.NameIsDNSSubdomain)...)
	}
	if s.PreemptionPolicy != nil {
		errs = append(errs, check.RequiredListed(path.Child("preemptionPolicy"), *s.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	if len(s.Overhead) > 0 {
		errs = append(errs, ValidateOverhead(s.Overhead, path.Child("overhead"))...)
	}
	if s.OS != nil {
		errs = append(errs, validateOS(s, path)...)
	}
	if s.SchedulingGroup != nil {
		errs = append(errs, validateSchedulingGroup(s.SchedulingGroup, path.Child("schedulingGroup"))...)
	}
	errs = append(errs, validateFileVolumes(s, path)...)
	if o.Pod != nil {
		errs = append(errs, validateOnlyPod(s, path)...)
	}
	return errs
}

// validateOnlyPod checks what templates are spared, since they always were.
func validateOnlyPod(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.ServiceAccountName == "" {
		for i := range s.Volumes {
			if s.Volumes[i].Projected == nil {
				continue
			}
			for j := range s.Volumes[i].Projected.Sources {
				if s.Volumes[i].Projected.Sources[j].ServiceAccountToken != nil {
					errs = append(errs, field.Forbidden(path.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"),
						"must not be specified when serviceAccountName is not set"))
				}
			}
		}
	}
	for i := range s.Containers {
		errs = append(errs, validateImage(s.Containers[i].Image, func() *field.Path { return path.Child("containers").Index(i) })...)
	}
	for i := range s.InitContainers {
		errs = append(errs, validateImage(s.InitContainers[i].Image, func() *field.Path { return path.Child("initContainers").Index(i) })...)
	}
	return errs
}

func validateImage(image string, container func() *field.Path) field.ErrorList {
	if len(image) == len(strings.TrimSpace(image)) {
		return nil
	}
	return field.ErrorList{field.Invalid(container().Child("image"), image, "must not have leading or trailing whitespace")}
}

func validateHostnameOverride(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.HostnameOverride == nil {
		return nil
	}
	path = path.Child("hostnameOverride")
	if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(path, "may not be specified when setHostnameAsFQDN is true"))
	}
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(path, "may not be specified when hostNetwork is true"))
	}
	name := *s.HostnameOverride
	if len(name) > 64 {
		errs = append(errs, field.TooLong(path, "", 64))
	}
	return append(errs, check.Rule(path, name, utilvalidation.IsDNS1123Subdomain)...)
}

func (v *validator) validateResourceClaims(path *field.Path) (errs field.ErrorList) {
	for i, c := range v.spec.ResourceClaims {
		if v.Pod != nil {
			if _, static := v.Pod.Annotations[corev1.MirrorPodAnnotationKey]; static {
				errs = append(errs, field.Forbidden(field.NewPath(""), "static pods do not support resource claims"))
				if c.Name != "" {
					v.claims[c.Name] = true
				}
				continue
			}
		}
		p := path.Index(i)
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(p.Child("name"), ""))
		case v.claims[c.Name]:
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		default:
			errs = append(errs, check.Rule(p.Child("name"), c.Name, check.IsDNS1123Label)...)
			v.claims[c.Name] = true
		}
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(p, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(p, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if c.ResourceClaimName != nil {
			errs = append(errs, check.Name(p.Child("resourceClaimName"), *c.ResourceClaimName, validation.NameIsDNSSubdomain)...)
		}
		if c.ResourceClaimTemplateName != nil {
			errs = append(errs, check.Name(p.Child("resourceClaimTemplateName"), *c.ResourceClaimTemplateName, validation.NameIsDNSSubdomain)...)
		}
	}
	return errs
}

// validateHostPorts demands that ports on the node's network are what they are
// on the node. A template may leave the host's side open: the pod gets it.
func (v *validator) validateHostPorts(path *field.Path) (errs field.ErrorList) {
	if !v.spec.HostNetwork {
		return nil
	}
	for i := range v.spec.Containers {
		for j, p := range v.spec.Containers[i].Ports {
			if (v.Pod != nil || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				errs = append(errs, field.Invalid(path.Child("containers").Index(i).Child("ports").Index(j).Child("hostPort"),
					p.HostPort, "must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

// The resolver's limits, those of glibc 2.26.
const (
	maxNameservers     = 3
	maxSearchPaths     = 32
	maxSearchListChars = 2048
)

func validateDNS(c *corev1.PodDNSConfig, policy corev1.DNSPolicy, path *field.Path) (errs field.ErrorList) {
	if c == nil {
		return field.ErrorList{field.Required(path, "must provide `dnsConfig` when `dnsPolicy` is None")}
	}
	if policy == corev1.DNSNone && len(c.Nameservers) == 0 {
		return field.ErrorList{field.Required(path.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None")}
	}
	if len(c.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(path.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, ns := range c.Nameservers {
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Child("nameservers").Index(i).Upstream(), ns, true, nil)...)
	}
	if len(c.Searches) > maxSearchPaths {
		errs = append(errs, field.Invalid(path.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearchPaths)))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchListChars {
		errs = append(errs, field.Invalid(path.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchListChars)))
	}
	for i, search := range c.Searches {
		if search != "." {
			errs = append(errs, check.Rule(path.Child("searches").Index(i), strings.TrimSuffix(search, "."), utilvalidation.IsDNS1123SubdomainWithUnderscore)...)
		}
	}
	for i, option := range c.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(path.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

func validateHostAliases(aliases []corev1.HostAlias, path *field.Path) (errs field.ErrorList) {
	for i, a := range aliases {
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Index(i).Child("ip").Upstream(), a.IP, true, nil)...)
		for j, name := range a.Hostnames {
			errs = append(errs, check.Rule(path.Index(i).Child("hostnames").Index(j), name, utilvalidation.IsDNS1123Subdomain)...)
		}
	}
	return errs
}

func validateHostUsers(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.HostUsers == nil || *s.HostUsers {
		return nil
	}
	const detail = "when `hostUsers` is false"
	for _, f := range []struct {
		set  bool
		name string
	}{{s.HostNetwork, "hostNetwork"}, {s.HostPID, "HostPID"}, {s.HostIPC, "HostIPC"}} {
		if f.set {
			errs = append(errs, field.Forbidden(path.Child(f.name), detail))
		}
	}
	eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
		if len(c.VolumeDevices) > 0 {
			errs = append(errs, field.Forbidden(p.Child("volumeDevices"), detail))
		}
	})
	return errs
}

// validateFileVolumes demands that variables are read from files of emptyDirs.
func validateFileVolumes(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	refers := func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.ValueFrom != nil && e.ValueFrom.FileKeyRef != nil })
	}
	if !slices.ContainsFunc(s.Containers, func(c corev1.Container) bool { return refers(&c) }) &&
		!slices.ContainsFunc(s.InitContainers, func(c corev1.Container) bool { return refers(&c) }) && len(s.EphemeralContainers) == 0 {
		return nil
	}
	eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
		for i, e := range c.Env {
			if e.ValueFrom == nil || e.ValueFrom.FileKeyRef == nil {
				continue
			}
			name, p := e.ValueFrom.FileKeyRef.VolumeName, p.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			switch k := slices.IndexFunc(s.Volumes, func(v corev1.Volume) bool { return v.Name == name }); {
			case k < 0:
				errs = append(errs, field.NotFound(p, name))
			case s.Volumes[k].EmptyDir == nil:
				errs = append(errs, field.Invalid(p, name, "referenced volume must be of type emptyDir"))
			}
		}
	})
	return errs
}
