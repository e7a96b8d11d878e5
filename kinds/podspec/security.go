package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

func validateUser(path *field.Path, id *int64) (errs field.ErrorList) {
	if id != nil {
		for _, msg := range utilvalidation.IsValidUserID(*id) {
			errs = append(errs, field.Invalid(path, *id, msg))
		}
	}
	return errs
}

func validateGroup(path *field.Path, id *int64) (errs field.ErrorList) {
	if id != nil {
		for _, msg := range utilvalidation.IsValidGroupID(*id) {
			errs = append(errs, field.Invalid(path, *id, msg))
		}
	}
	return errs
}

func validatePodSecurity(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), *s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	sc := s.SecurityContext
	if sc == nil {
		return errs
	}
	errs = append(errs, validateGroup(path.Child("fsGroup"), sc.FSGroup)...)
	errs = append(errs, validateUser(path.Child("runAsUser"), sc.RunAsUser)...)
	errs = append(errs, validateGroup(path.Child("runAsGroup"), sc.RunAsGroup)...)
	for i := range sc.SupplementalGroups {
		errs = append(errs, validateGroup(path.Child("supplementalGroups").Index(i), &sc.SupplementalGroups[i])...)
	}
	errs = append(errs, validateSysctls(sc.Sysctls, s, path.Child("sysctls"))...)
	if sc.FSGroupChangePolicy != nil {
		errs = append(errs, check.Listed(path.Child("fsGroupChangePolicy"), *sc.FSGroupChangePolicy, corev1.FSGroupChangeOnRootMismatch, corev1.FSGroupChangeAlways)...)
	}
	if sc.SupplementalGroupsPolicy != nil {
		errs = append(errs, check.OneOf(path.Child("supplementalGroupsPolicy"), *sc.SupplementalGroupsPolicy, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	if sc.SELinuxChangePolicy != nil {
		errs = append(errs, check.OneOf(path.Child("seLinuxChangePolicy"), *sc.SELinuxChangePolicy, corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
	}
	errs = append(errs, validateSeccomp(sc.SeccompProfile, path.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmor(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
	return append(errs, validateWindows(sc.WindowsOptions, path.Child("windowsOptions"))...)
}

func validateSysctls(list []corev1.Sysctl, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, c := range list {
		p := path.Index(i).Child("name")
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(p, ""))
		case len(c.Name) > maxSysctl || !sysctlName.MatchString(c.Name):
			errs = append(errs, field.Invalid(p, c.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctl, sysctlFmt)))
		case seen[c.Name]:
			errs = append(errs, field.Duplicate(p, c.Name))
		}
		seen[c.Name] = true
		name := strings.ReplaceAll(c.Name, "/", ".")
		if s.HostNetwork && strings.HasPrefix(name, "net.") {
			errs = append(errs, field.Invalid(p, c.Name, "may not be specified when 'hostNetwork' is true"))
		}
		if s.HostIPC && (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")) {
			errs = append(errs, field.Invalid(p, c.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}

func validateSeccomp(s *corev1.SeccompProfile, path *field.Path) (errs field.ErrorList) {
	if s == nil {
		return nil
	}
	switch s.Type {
	case corev1.SeccompProfileTypeLocalhost:
		if s.LocalhostProfile == nil {
			errs = append(errs, field.Required(path.Child("localhostProfile"), "must be set when seccomp type is Localhost"))
		} else {
			errs = append(errs, check.RelativePath(path.Child("localhostProfile"), *s.LocalhostProfile)...)
		}
	default:
		if s.LocalhostProfile != nil {
			errs = append(errs, field.Invalid(path.Child("localhostProfile"), s, "can only be set when seccomp type is Localhost"))
		}
	}
	if s.Type == "" {
		return append(errs, field.Required(path.Child("type"), "type is required when seccompProfile is set"))
	}
	return append(errs, check.OneOf(path.Child("type"), s.Type,
		corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)...)
}

func validateAppArmor(a *corev1.AppArmorProfile, path *field.Path) (errs field.ErrorList) {
	if a == nil {
		return nil
	}
	switch p := path.Child("localhostProfile"); {
	case a.Type == corev1.AppArmorProfileTypeLocalhost && a.LocalhostProfile == nil:
		errs = append(errs, field.Required(p, "must be set when AppArmor type is Localhost"))
	case a.Type == corev1.AppArmorProfileTypeLocalhost:
		name := strings.TrimSpace(*a.LocalhostProfile)
		switch {
		case name != *a.LocalhostProfile:
			errs = append(errs, field.Invalid(p, *a.LocalhostProfile, "must not be padded with whitespace"))
		case name == "":
			errs = append(errs, field.Required(p, "must be set when AppArmor type is Localhost"))
		case len(name) > 4095:
			errs = append(errs, field.TooLong(p, name, 4095))
		}
	case a.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(p, *a.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
	}
	if a.Type == "" {
		return append(errs, field.Required(path.Child("type"), "type is required when appArmorProfile is set"))
	}
	return append(errs, check.OneOf(path.Child("type"), a.Type,
		corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)...)
}

func validateWindows(w *corev1.WindowsSecurityContextOptions, path *field.Path) (errs field.ErrorList) {
	if w == nil {
		return nil
	}
	if n := w.GMSACredentialSpecName; n != nil {
		errs = append(errs, check.Rule(path.Child("gmsaCredentialSpecName"), *n, utilvalidation.IsDNS1123Subdomain)...)
	}
	if c := w.GMSACredentialSpec; c != nil {
		if len(*c) == 0 {
			errs = append(errs, field.Invalid(path.Child("gmsaCredentialSpec"), "", "gmsaCredentialSpec cannot be an empty string"))
		} else if len(*c) > 64<<10 {
			errs = append(errs, field.Invalid(path.Child("gmsaCredentialSpec"), *c, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", 64)))
		}
	}
	if n := w.RunAsUserName; n != nil && *n == "" {
		errs = append(errs, field.Invalid(path.Child("runAsUserName"), "", "runAsUserName cannot be an empty string"))
	}
	return errs
}

func validateSecurity(sc *corev1.SecurityContext, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if sc == nil {
		return nil
	}
	errs = append(errs, validateUser(path.Child("runAsUser"), sc.RunAsUser)...)
	errs = append(errs, validateGroup(path.Child("runAsGroup"), sc.RunAsGroup)...)
	if sc.ProcMount != nil {
		errs = append(errs, check.OneOf(path.Child("procMount"), *sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if *sc.ProcMount == corev1.UnmaskedProcMount && (s.HostUsers == nil || *s.HostUsers) {
			errs = append(errs, field.Invalid(path.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	errs = append(errs, validateSeccomp(sc.SeccompProfile, path.Child("seccompProfile"))...)
	if e := sc.AllowPrivilegeEscalation; e != nil && !*e {
		if sc.Privileged != nil && *sc.Privileged {
			errs = append(errs, field.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil && slices.Contains(sc.Capabilities.Add, "CAP_SYS_ADMIN") {
			errs = append(errs, field.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
		}
	}
	errs = append(errs, validateWindows(sc.WindowsOptions, path.Child("windowsOptions"))...)
	return append(errs, validateAppArmor(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
}

// validateOS refuses what the pod's declared operating system lacks.
func validateOS(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	if s.OS == nil {
		return nil
	}
	p := path.Child("os", "name")
	switch s.OS.Name {
	case "":
		return field.ErrorList{field.Required(p, "cannot be empty")}
	case corev1.Linux:
		const not = "windows options cannot be set for a linux pod"
		if s.SecurityContext != nil && s.SecurityContext.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(path.Child("securityContext", "windowsOptions"), not))
		}
		eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
			if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
				errs = append(errs, field.Forbidden(p.Child("securityContext", "windowsOptions"), not))
			}
		})
	case corev1.Windows:
		errs = append(errs, validateWindowsPod(s, path)...)
	default:
		errs = append(errs, field.NotSupported(p, s.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows}))
	}
	return errs
}

func validateWindowsPod(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	forbid := func(set bool, p *field.Path) {
		if set {
			errs = append(errs, field.Forbidden(p, "cannot be set for a windows pod"))
		}
	}
	if sc := s.SecurityContext; sc != nil {
		p := path.Child("securityContext")
		forbid(sc.AppArmorProfile != nil, p.Child("appArmorProfile"))
		forbid(sc.SELinuxOptions != nil, p.Child("seLinuxOptions"))
		forbid(sc.FSGroup != nil, p.Child("fsGroup"))
		forbid(sc.FSGroupChangePolicy != nil, p.Child("fsGroupChangePolicy"))
		forbid(len(sc.Sysctls) > 0, p.Child("sysctls"))
		forbid(sc.RunAsUser != nil, p.Child("runAsUser"))
		forbid(sc.RunAsGroup != nil, p.Child("runAsGroup"))
		forbid(sc.SupplementalGroups != nil, p.Child("supplementalGroups"))
		forbid(sc.SeccompProfile != nil, p.Child("seccompProfile"))
	}
	forbid(s.HostUsers != nil, path.Child("hostUsers"))
	forbid(s.HostPID, path.Child("hostPID"))
	forbid(s.HostIPC, path.Child("hostIPC"))
	forbid(s.ShareProcessNamespace != nil, path.Child("shareProcessNamespace"))
	eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
		sc := c.SecurityContext
		if sc == nil {
			return
		}
		p = p.Child("securityContext")
		forbid(sc.AppArmorProfile != nil, p.Child("appArmorProfile"))
		forbid(sc.SELinuxOptions != nil, p.Child("seLinuxOptions"))
		forbid(sc.SeccompProfile != nil, p.Child("seccompProfile"))
		forbid(sc.Capabilities != nil, p.Child("capabilities"))
		forbid(sc.ReadOnlyRootFilesystem != nil, p.Child("readOnlyRootFilesystem"))
		forbid(sc.Privileged != nil, p.Child("privileged"))
		forbid(sc.AllowPrivilegeEscalation != nil, p.Child("allowPrivilegeEscalation"))
		forbid(sc.ProcMount != nil, p.Child("procMount"))
		forbid(sc.RunAsUser != nil, p.Child("runAsUser"))
		forbid(sc.RunAsGroup != nil, p.Child("runAsGroup"))
	})
	return errs
}

// eachContainer visits containers of every sort with the path of each.
func eachContainer(s *corev1.PodSpec, path *field.Path, visit func(*corev1.Container, *field.Path)) {
	for i := range s.InitContainers {
		visit(&s.InitContainers[i], path.Child("initContainers").Index(i))
	}
	for i := range s.Containers {
		visit(&s.Containers[i], path.Child("containers").Index(i))
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		visit(&c, path.Child("ephemeralContainers").Index(i))
	}
}
