package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// validateOS refuses what the pod's declared operating system lacks.
func validateOS(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	p := path.Child("os")
	switch s.OS.Name {
	case "":
		return field.ErrorList{field.Required(p.Child("name"), "")}
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
		return errs
	case corev1.Windows:
		return validateWindowsPod(s, path)
	}
	return check.OneOf(p, s.OS.Name, corev1.Linux, corev1.Windows)
}

func validateWindowsPod(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	forbid := func(set bool, p *field.Path) {
		if set {
			errs = append(errs, field.Forbidden(p, "cannot be set for a windows pod"))
		}
	}
	sc := s.SecurityContext
	if sc == nil {
		sc = &corev1.PodSecurityContext{}
	}
	p := path.Child("securityContext")
	forbid(sc.AppArmorProfile != nil, p.Child("appArmorProfile"))
	forbid(sc.SELinuxOptions != nil, p.Child("seLinuxOptions"))
	forbid(s.HostUsers != nil, path.Child("hostUsers"))
	forbid(s.HostPID, path.Child("hostPID"))
	forbid(s.HostIPC, path.Child("hostIPC"))
	forbid(sc.SeccompProfile != nil, p.Child("seccompProfile"))
	forbid(sc.FSGroup != nil, p.Child("fsGroup"))
	forbid(sc.FSGroupChangePolicy != nil, p.Child("fsGroupChangePolicy"))
	forbid(len(sc.Sysctls) > 0, p.Child("sysctls"))
	forbid(s.ShareProcessNamespace != nil, path.Child("shareProcessNamespace"))
	forbid(sc.RunAsUser != nil, p.Child("runAsUser"))
	forbid(sc.RunAsGroup != nil, p.Child("runAsGroup"))
	forbid(sc.SupplementalGroups != nil, p.Child("supplementalGroups"))
	forbid(sc.SupplementalGroupsPolicy != nil, p.Child("supplementalGroupsPolicy"))
	forbid(sc.SELinuxChangePolicy != nil, p.Child("seLinuxChangePolicy"))
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

func validateWindows(w *corev1.WindowsSecurityContextOptions, path *field.Path) (errs field.ErrorList) {
	if w == nil {
		return nil
	}
	if n := w.GMSACredentialSpecName; n != nil {
		errs = append(errs, check.Rule(path.Child("gmsaCredentialSpecName"), *n, utilvalidation.IsDNS1123Subdomain)...)
	}
	if c := w.GMSACredentialSpec; c != nil {
		const most = 64 // KiB
		if len(*c) == 0 {
			errs = append(errs, field.Invalid(path.Child("gmsaCredentialSpec"), "", "gmsaCredentialSpec cannot be an empty string"))
		} else if len(*c) > most<<10 {
			errs = append(errs, field.Invalid(path.Child("gmsaCredentialSpec"), *c, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", most)))
		}
	}
	if w.RunAsUserName != nil {
		for _, msg := range windowsUser(*w.RunAsUserName) {
			errs = append(errs, field.Invalid(path.Child("runAsUserName"), *w.RunAsUserName, "runAsUserName"+msg))
		}
	}
	return errs
}

var (
	control       = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSDomain = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dnsDomain     = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	dotsOrSpaces  = regexp.MustCompile(`^[\. ]+$`)
)

// windowsUser says what is wrong with a user's name, with or without a domain.
func windowsUser(name string) (msgs []string) {
	const maxDomain, maxUser, badChars = 256, 104, `"/\:;|=,+*?<>@[]`
	parts := strings.Split(name, `\`)
	switch {
	case name == "":
		return []string{" cannot be an empty string"}
	case control.MatchString(name):
		return []string{" cannot contain control characters"}
	case len(parts) > 2:
		return []string{" cannot contain more than one backslash"}
	}
	user := parts[len(parts)-1]
	if len(parts) == 2 {
		domain := parts[0]
		if len(domain) >= maxDomain {
			msgs = append(msgs, fmt.Sprintf("'s Domain length must be under %d characters", maxDomain))
		}
		if !netBIOSDomain.MatchString(domain) && !dnsDomain.MatchString(domain) {
			msgs = append(msgs, "'s Domain doesn't match the NetBios nor the DNS format")
		}
	}
	switch {
	case user == "":
		msgs = append(msgs, "'s User cannot be empty")
	case len(user) > maxUser:
		msgs = append(msgs, fmt.Sprintf("'s User length must not be longer than %d characters", maxUser))
	}
	if dotsOrSpaces.MatchString(user) {
		msgs = append(msgs, "'s User cannot contain only periods or spaces")
	}
	if strings.ContainsAny(user, badChars) {
		msgs = append(msgs, "'s User cannot contain the following characters: "+badChars)
	}
	return msgs
}

// validateHostProcess demands that all containers of a Windows pod run on the
// host itself, or none.
func validateHostProcess(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	var pod *bool
	if s.SecurityContext != nil && s.SecurityContext.WindowsOptions != nil {
		pod = s.SecurityContext.WindowsOptions.HostProcess
	}
	windows := func(c *corev1.Container) bool {
		return c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil
	}
	all, host := 0, 0
	// Most pods have nothing to do with Windows: no path is made for those.
	any := pod != nil
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			any = any || windows(&list[i])
		}
	}
	if !any && len(s.EphemeralContainers) == 0 {
		return nil
	}
	eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
		all++
		var own *bool
		if windows(c) {
			own = c.SecurityContext.WindowsOptions.HostProcess
		}
		if pod != nil && own != nil && *pod != *own {
			errs = append(errs, field.Invalid(p.Child("securityContext", "windowsOptions", "hostProcess"), *own,
				fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *pod)))
		}
		if own != nil && *own || own == nil && pod != nil && *pod {
			host++
		}
	})
	if host == 0 {
		return errs
	}
	if host != all {
		errs = append(errs, field.Invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if !s.HostNetwork {
		errs = append(errs, field.Invalid(path.Child("hostNetwork"), s.HostNetwork, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}
