package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

const notForInit = "may not be set for init containers without restartPolicy=Always"

func (v *validator) validateContainers(path *field.Path) (errs field.ErrorList) {
	s := v.spec
	names := map[string]bool{}
	hostPorts := map[string]bool{}
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	for i := range s.Containers {
		c, p := &s.Containers[i], path.Child("containers").Index(i)
		errs = append(errs, v.validateContainer(c, p)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		}
		names[c.Name] = true
		errs = append(errs, v.validateRunning(c, p)...)
		if c.RestartPolicy != nil {
			errs = append(errs, check.OneOf(p.Child("restartPolicy"), *c.RestartPolicy,
				corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
		}
		errs = append(errs, validateRestartRules(c, p)...)
		if len(c.Ports) > 0 {
			errs = append(errs, duplicateHostPorts(c.Ports, hostPorts, p.Child("ports"))...)
		}
	}
	for i := range s.InitContainers {
		c, p := &s.InitContainers[i], path.Child("initContainers").Index(i)
		errs = append(errs, v.validateContainer(c, p)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		} else if c.Name != "" {
			names[c.Name] = true
		}
		if c.RestartPolicy != nil {
			errs = append(errs, check.OneOf(p.Child("restartPolicy"), *c.RestartPolicy,
				corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
		}
		errs = append(errs, validateRestartRules(c, p)...)
		// Init containers follow one another, so only one alone can conflict.
		errs = append(errs, duplicateHostPorts(c.Ports, map[string]bool{}, p.Child("ports"))...)
		if IsSidecar(c) {
			errs = append(errs, v.validateRunning(c, p)...)
			continue
		}
		for _, f := range []struct {
			set  bool
			name string
		}{
			{c.Lifecycle != nil, "lifecycle"}, {c.LivenessProbe != nil, "livenessProbe"},
			{c.ReadinessProbe != nil, "readinessProbe"}, {c.StartupProbe != nil, "startupProbe"},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(p.Child(f.name), notForInit))
			}
		}
	}
	return append(errs, v.validateEphemeral(names, path.Child("ephemeralContainers"))...)
}

// validateContainer checks what all containers have in common.
func (v *validator) validateContainer(c *corev1.Container, path *field.Path) field.ErrorList {
	errs := check.RequiredName(path.Child("name"), c.Name, check.IsDNS1123Label)
	if c.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	} else if v.Pod && c.Image != strings.TrimSpace(c.Image) {
		errs = append(errs, field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, check.RequiredListed(path.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	// A path is an allocation, and most of what a container may have is unset:
	// paths are made where there is something to check.
	if len(c.Ports) > 0 {
		errs = append(errs, validatePorts(c.Ports, path.Child("ports"))...)
	}
	if len(c.Env) > 0 {
		errs = append(errs, v.validateEnv(c.Env, path.Child("env"))...)
	}
	if len(c.EnvFrom) > 0 {
		errs = append(errs, validateEnvFrom(c.EnvFrom, path.Child("envFrom"))...)
	}
	if len(c.VolumeMounts) > 0 {
		errs = append(errs, v.validateMounts(c, path.Child("volumeMounts"))...)
	}
	if len(c.VolumeDevices) > 0 {
		errs = append(errs, v.validateDevices(c, path.Child("volumeDevices"))...)
	}
	errs = append(errs, check.RequiredOneOf(path.Child("imagePullPolicy"), c.ImagePullPolicy,
		corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	if r := &c.Resources; len(r.Limits)+len(r.Requests)+len(r.Claims) > 0 {
		errs = append(errs, ValidateResources(r, v.claims, path.Child("resources"))...)
	}
	if len(c.ResizePolicy) > 0 {
		errs = append(errs, validateResizePolicy(c, path.Child("resizePolicy"))...)
	}
	if c.SecurityContext != nil {
		errs = append(errs, validateSecurity(c.SecurityContext, v.spec, path.Child("securityContext"))...)
	}
	return errs
}

// validateRunning checks what only containers that keep running have.
func (v *validator) validateRunning(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	var grace int64
	if v.spec.TerminationGracePeriodSeconds != nil {
		grace = *v.spec.TerminationGracePeriodSeconds
	}
	if l := c.Lifecycle; l != nil {
		p := path.Child("lifecycle")
		if l.PostStart != nil {
			errs = append(errs, validateHandler(lifecycle(l.PostStart), grace, p.Child("postStart"))...)
		}
		if l.PreStop != nil {
			errs = append(errs, validateHandler(lifecycle(l.PreStop), grace, p.Child("preStop"))...)
		}
		if l.StopSignal != nil && (v.spec.OS == nil || v.spec.OS.Name == "") {
			errs = append(errs, field.Forbidden(p.Child("stopSignal"), "may not be set for containers with empty `spec.os.name`"))
		}
	}
	if p := c.LivenessProbe; p != nil {
		path := path.Child("livenessProbe")
		errs = append(errs, validateProbe(p, grace, path)...)
		if p.SuccessThreshold != 1 {
			errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
		}
	}
	if p := c.ReadinessProbe; p != nil {
		path := path.Child("readinessProbe")
		errs = append(errs, validateProbe(p, grace, path)...)
		if p.TerminationGracePeriodSeconds != nil {
			errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
		}
	}
	if p := c.StartupProbe; p != nil {
		path := path.Child("startupProbe")
		errs = append(errs, validateProbe(p, grace, path)...)
		if p.SuccessThreshold != 1 {
			errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
		}
	}
	return errs
}

func validateRestartRules(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	if len(c.RestartPolicyRules) == 0 {
		return nil
	}
	if c.RestartPolicy == nil {
		errs = append(errs, field.Required(path.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	}
	path = path.Child("restartPolicyRules")
	if n := len(c.RestartPolicyRules); n > 20 {
		errs = append(errs, field.TooMany(path, n, 20))
	}
	for i, r := range c.RestartPolicyRules {
		p := path.Index(i)
		errs = append(errs, check.RequiredOneOf(p.Child("action"), r.Action,
			corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(p.Child("exitCodes"), "must be specified"))
			continue
		}
		p = p.Child("exitCodes")
		errs = append(errs, check.RequiredOneOf(p.Child("operator"), r.ExitCodes.Operator,
			corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if n := len(r.ExitCodes.Values); n > 255 {
			errs = append(errs, field.TooMany(p.Child("values"), n, 255))
		}
	}
	return errs
}

func validatePorts(ports []corev1.ContainerPort, path *field.Path) (errs field.ErrorList) {
	names := map[string]bool{}
	for i, port := range ports {
		p := path.Index(i)
		if port.Name != "" {
			bad := check.Rule(p.Child("name"), port.Name, check.IsValidPortName)
			if len(bad) == 0 && names[port.Name] {
				bad = append(bad, field.Duplicate(p.Child("name"), port.Name))
			}
			names[port.Name] = true
			errs = append(errs, bad...)
		}
		if port.ContainerPort == 0 {
			errs = append(errs, field.Required(p.Child("containerPort"), ""))
		} else {
			errs = append(errs, check.Port(p.Child("containerPort"), port.ContainerPort)...)
		}
		if port.HostPort != 0 {
			errs = append(errs, check.Port(p.Child("hostPort"), port.HostPort)...)
		}
		errs = append(errs, check.RequiredOneOf(p.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		if port.HostIP != "" {
			errs = append(errs, utilvalidation.IsValidIPForLegacyField(p.Child("hostIP"), port.HostIP, true, nil)...)
		}
	}
	return errs
}

func duplicateHostPorts(ports []corev1.ContainerPort, taken map[string]bool, path *field.Path) (errs field.ErrorList) {
	for i, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		id := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
		if taken[id] {
			errs = append(errs, field.Duplicate(path.Index(i).Child("hostPort"), id))
		}
		taken[id] = true
	}
	return errs
}

func (v *validator) validateEphemeral(names map[string]bool, path *field.Path) (errs field.ErrorList) {
	const notHere = "cannot be set for an Ephemeral Container"
	others := map[string]bool{}
	for _, list := range [][]corev1.Container{v.spec.Containers, v.spec.InitContainers} {
		for i := range list {
			others[list[i].Name] = true
		}
	}
	for i := range v.spec.EphemeralContainers {
		e, p := &v.spec.EphemeralContainers[i], path.Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		errs = append(errs, v.validateContainer(&c, p)...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		}
		names[c.Name] = true
		if e.TargetContainerName != "" && !others[e.TargetContainerName] {
			errs = append(errs, field.NotFound(p.Child("targetContainerName"), e.TargetContainerName))
		}
		for _, f := range []struct {
			set  bool
			name string
		}{
			{len(c.Ports) > 0, "ports"}, {c.LivenessProbe != nil, "livenessProbe"}, {c.ReadinessProbe != nil, "readinessProbe"},
			{c.StartupProbe != nil, "startupProbe"}, {c.Lifecycle != nil, "lifecycle"},
			{len(c.Resources.Limits)+len(c.Resources.Requests)+len(c.Resources.Claims) > 0, "resources"},
			{c.RestartPolicy != nil, "restartPolicy"}, {len(c.ResizePolicy) > 0, "resizePolicy"},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(p.Child(f.name), notHere))
			}
		}
		for j, m := range c.VolumeMounts {
			if m.SubPath != "" {
				errs = append(errs, field.Forbidden(p.Child("volumeMounts").Index(j).Child("subPath"), notHere))
			}
			if m.SubPathExpr != "" {
				errs = append(errs, field.Forbidden(p.Child("volumeMounts").Index(j).Child("subPathExpr"), notHere))
			}
		}
	}
	return errs
}
