package podspec

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

// Options say where a specification stands.
type Options struct {
	// Pod is true for a pod itself, false for a template.
	Pod bool
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
	errs := metav1validation.ValidateLabels(t.Labels, path.Child("labels"))
	errs = append(errs, validation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	errs = append(errs, Validate(&t.Spec, path.Child("spec"), Options{})...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// Validate checks a pod's specification.
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
	errs = append(errs, validateDNS(s, path)...)
	if len(s.NodeSelector) > 0 {
		errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	}
	errs = append(errs, validatePodSecurity(s, path.Child("securityContext"))...)
	if s.Affinity != nil {
		errs = append(errs, validateAffinity(s.Affinity, path.Child("affinity"))...)
	}
	for i, g := range s.ReadinessGates {
		errs = append(errs, check.Rule(path.Child("readinessGates").Index(i).Child("conditionType"), string(g.ConditionType), check.IsQualifiedName)...)
	}
	if len(s.SchedulingGates) > 0 {
		errs = append(errs, validateGates(s.SchedulingGates, path.Child("schedulingGates"))...)
	}
	if s.SchedulingGroup != nil {
		errs = append(errs, validateSchedulingGroup(s.SchedulingGroup, path.Child("schedulingGroup"))...)
	}
	if len(s.TopologySpreadConstraints) > 0 {
		errs = append(errs, validateSpread(s.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	}
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
	errs = append(errs, validateHostnameOverride(s, path)...)
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
		errs = append(errs, validateContainerList(s.Overhead, path.Child("overhead"))...)
	}
	errs = append(errs, validateHostUsers(s, path)...)
	return append(errs, validateOS(s, path)...)
}

func validateHostnameOverride(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.HostnameOverride == nil {
		return nil
	}
	path = path.Child("hostnameOverride")
	if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(path, "cannot be set when `setHostnameAsFQDN` is true"))
	}
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(path, "cannot be set when `hostNetwork` is true"))
	}
	name := *s.HostnameOverride
	if len(name) > 64 {
		errs = append(errs, field.TooLong(path, name, 64))
	}
	return append(errs, check.Rule(path, name, utilvalidation.IsDNS1123Subdomain)...)
}

func (v *validator) validateResourceClaims(path *field.Path) (errs field.ErrorList) {
	for i, c := range v.spec.ResourceClaims {
		p := path.Index(i)
		errs = append(errs, check.RequiredName(p.Child("name"), c.Name, check.IsDNS1123Label)...)
		if v.claims[c.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		}
		v.claims[c.Name] = true
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
			if (v.Pod || p.HostPort != 0) && p.HostPort != p.ContainerPort {
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

func validateDNS(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	errs := check.RequiredListed(path.Child("dnsPolicy"), s.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	path = path.Child("dnsConfig")
	c := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone {
		if c == nil {
			return append(errs, field.Required(path, "must provide `dnsConfig` when `dnsPolicy` is None"))
		}
		if len(c.Nameservers) == 0 {
			return append(errs, field.Required(path.Child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"))
		}
	}
	if c == nil {
		return errs
	}
	if len(c.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(path.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, ns := range c.Nameservers {
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Child("nameservers").Index(i), ns, true, nil)...)
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
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Index(i).Child("ip"), a.IP, true, nil)...)
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
	p := path.Child("hostUsers")
	for _, f := range []struct {
		set  bool
		name string
	}{{s.HostNetwork, "hostNetwork"}, {s.HostPID, "HostPID"}, {s.HostIPC, "HostIPC"}} {
		if f.set {
			errs = append(errs, field.Forbidden(p, "when `hostUsers=false`, `"+f.name+"` must not be set"))
		}
	}
	devices := func(list []corev1.Container, name string) {
		for i := range list {
			for j := range list[i].VolumeDevices {
				errs = append(errs, field.Forbidden(path.Child(name).Index(i).Child("volumeDevices").Index(j), "block volumes cannot be used when `hostUsers` is false"))
			}
		}
	}
	devices(s.Containers, "containers")
	devices(s.InitContainers, "initContainers")
	return errs
}

var sysctlName = regexp.MustCompile("^" + sysctlFmt + "$")

const (
	sysctlSegment = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
	sysctlFmt     = "(" + sysctlSegment + "[\\./])*" + sysctlSegment
	maxSysctl     = 253
)
