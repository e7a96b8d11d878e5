package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const (
	notForInit      = "may not be set for init containers without restartPolicy=Always"
	noRestartPolicy = "must specify restartPolicy when restart rules are used"
)

func (v *validator) validateContainers(path *field.Path) (errs field.ErrorList) {
	s := v.spec
	names := map[string]bool{}
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
		errs = append(errs, validateRestart(c, p)...)
	}
	errs = append(errs, duplicateHostPorts(s.Containers, path.Child("containers"))...)
	for i := range s.InitContainers {
		c, p := &s.InitContainers[i], path.Child("initContainers").Index(i)
		errs = append(errs, v.validateContainer(c, p)...)
		if c.RestartPolicy == nil && len(c.RestartPolicyRules) > 0 {
			errs = append(errs, field.Required(p.Child("restartPolicy"), noRestartPolicy))
		} else {
			errs = append(errs, validateRestart(c, p)...)
		}
		if names[c.Name] {
			errs = append(errs, field.Duplicate(p.Child("name"), c.Name))
		} else if c.Name != "" {
			names[c.Name] = true
		}
		// Init containers follow one another, so only one alone can conflict; which
		// upstream then takes for the first.
		errs = append(errs, duplicateHostPorts(s.InitContainers[i:i+1], path.Child("initContainers"))...)
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
	if len(s.EphemeralContainers) == 0 {
		return errs
	}
	return append(errs, v.validateEphemeral(path.Child("ephemeralContainers"))...)
}

// validateContainer checks what all containers have in common.
func (v *validator) validateContainer(c *corev1.Container, path *field.Path) field.ErrorList {
	errs := check.RequiredName(path.Child("name"), c.Name, check.IsDNS1123Label)
	if c.Image == "" {
		errs = append(errs, field.Required(path.Child("image"), ""))
	}
	errs = append(errs, check.RequiredListed(path.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	// A path is an allocation, and most of what a container may have is unset:
	// paths are made where there is something to check.
	if len(c.Ports) > 0 {
		errs = append(errs, validatePorts(c.Ports, path.Child("ports"))...)
	}
	if len(c.Env) > 0 {
		errs = append(errs, validateEnv(c.Env, path.Child("env"))...)
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
		errs = append(errs, validateResizePolicy(c, v.spec.RestartPolicy, path.Child("resizePolicy"))...)
	}
	if c.SecurityContext != nil {
		errs = append(errs, validateSecurity(c.SecurityContext, v.spec, path.Child("securityContext"))...)
	}
	return errs
}

// validateRunning checks what only containers that keep running have.
func (v *validator) validateRunning(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	grace := v.spec.TerminationGracePeriodSeconds
	if l := c.Lifecycle; l != nil {
		p := path.Child("lifecycle")
		if l.PostStart != nil {
			errs = append(errs, validateHandler(lifecycle(l.PostStart), grace, p.Child("postStart"))...)
		}
		if l.PreStop != nil {
			errs = append(errs, validateHandler(lifecycle(l.PreStop), grace, p.Child("preStop"))...)
		}
		if l.StopSignal != nil {
			errs = append(errs, validateStopSignal(*l.StopSignal, v.spec.OS, p.Child("stopSignal"))...)
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

// linuxSignals are the signals by the names that Linux has for them: in order,
// as the error lists them.
var linuxSignals = func() (all []corev1.Signal) {
	for _, name := range strings.Fields("ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX") {
		all = append(all, corev1.Signal("SIG"+name))
	}
	for n := range 15 {
		all = append(all, corev1.Signal(fmt.Sprintf("SIGRTMIN+%d", n+1)))
		if n < 14 {
			all = append(all, corev1.Signal(fmt.Sprintf("SIGRTMAX-%d", n+1)))
		}
	}
	slices.Sort(all)
	return all
}()

func validateStopSignal(signal corev1.Signal, os *corev1.PodOS, path *field.Path) field.ErrorList {
	switch {
	case os == nil:
		return field.ErrorList{field.Forbidden(path, "may not be set for containers with empty `spec.os.name`")}
	case os.Name == corev1.Windows:
		return check.OneOf(path, signal, corev1.SIGKILL, corev1.SIGTERM)
	case os.Name == corev1.Linux:
		return check.Listed(path, signal, linuxSignals...)
	}
	return nil
}

// validateRestart checks when a container of its own policy is run again.
func validateRestart(c *corev1.Container, path *field.Path) (errs field.ErrorList) {
	rules := c.RestartPolicyRules
	switch {
	case c.RestartPolicy == nil && len(rules) == 0:
		return nil
	case c.RestartPolicy == nil:
		errs = append(errs, field.Required(path.Child("restartPolicy"), noRestartPolicy))
	default:
		errs = append(errs, check.OneOf(path.Child("restartPolicy"), *c.RestartPolicy,
			corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	}
	path = path.Child("restartPolicyRules")
	if n := len(rules); n > 20 {
		errs = append(errs, field.TooMany(path, n, 20))
	}
	for i, r := range rules {
		p := path.Index(i)
		if r.Action != corev1.ContainerRestartRuleActionRestart && r.Action != corev1.ContainerRestartRuleActionRestartAllContainers {
			// Upstream leaves out the younger of the two.
			errs = append(errs, field.NotSupported(p.Child("action"), r.Action, []corev1.ContainerRestartRuleAction{corev1.ContainerRestartRuleActionRestart}))
		}
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(p.Child("exitCodes"), "must be specified"))
			continue
		}
		p = p.Child("exitCodes")
		errs = append(errs, check.OneOf(p.Child("operator"), r.ExitCodes.Operator,
			corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if n := len(r.ExitCodes.Values); n > 255 {
			errs = append(errs, field.TooMany(p.Child("values"), n, 255))
		}
	}
	return errs
}

// Restarts says whether a container that ended is run again: as its own rules
// say, else its own policy, else the pod's.
func Restarts(c *corev1.Container, s *corev1.PodSpec, code int32) bool {
	policy := s.RestartPolicy
	if c.RestartPolicy != nil {
		for _, r := range c.RestartPolicyRules {
			if x := r.ExitCodes; x != nil && slices.Contains(x.Values, code) == (x.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
				if r.Action == corev1.ContainerRestartRuleActionRestart {
					return true
				}
				break
			}
		}
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
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
			if len(bad) == 0 {
				names[port.Name] = true
			}
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
	}
	return errs
}

// duplicateHostPorts reports what containers that run together take twice of the
// node.
func duplicateHostPorts(containers []corev1.Container, path *field.Path) (errs field.ErrorList) {
	var taken map[string]bool
	for i := range containers {
		for j, p := range containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			if taken == nil {
				taken = map[string]bool{}
			}
			id := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if taken[id] {
				errs = append(errs, field.Duplicate(path.Index(i).Child("ports").Index(j).Child("hostPort"), id))
			}
			taken[id] = true
		}
	}
	return errs
}

func (v *validator) validateEphemeral(path *field.Path) (errs field.ErrorList) {
	const notHere = "cannot be set for an Ephemeral Container"
	others, names := map[string]bool{}, map[string]bool{}
	for _, list := range [][]corev1.Container{v.spec.Containers, v.spec.InitContainers} {
		for i := range list {
			others[list[i].Name], names[list[i].Name] = true, true
		}
	}
	for i := range v.spec.EphemeralContainers {
		e, p := &v.spec.EphemeralContainers[i], path.Index(i)
		c := corev1.Container(e.EphemeralContainerCommon)
		errs = append(errs, v.validateContainer(&c, p)...)
		errs = append(errs, validateImage(c.Image, func() *field.Path { return p })...)
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
			{c.Ports != nil, "ports"}, {c.Resources.Limits != nil || c.Resources.Requests != nil || c.Resources.Claims != nil, "resources"},
			{c.ResizePolicy != nil, "resizePolicy"}, {c.RestartPolicy != nil, "restartPolicy"}, {c.RestartPolicyRules != nil, "restartPolicyRules"},
			{c.LivenessProbe != nil, "livenessProbe"}, {c.ReadinessProbe != nil, "readinessProbe"},
			{c.StartupProbe != nil, "startupProbe"}, {c.Lifecycle != nil, "lifecycle"},
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
