package hooks

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/runtime"
)

// effective merges the security context of a container over that of its pod.
func effective(p *corev1.Pod, c *corev1.Container) *corev1.SecurityContext {
	sc := &corev1.SecurityContext{}
	if c.SecurityContext != nil {
		sc = c.SecurityContext.DeepCopy()
	}
	ps := p.Spec.SecurityContext
	if ps == nil {
		return sc
	}
	if sc.RunAsUser == nil {
		sc.RunAsUser = ps.RunAsUser
	}
	if sc.RunAsGroup == nil {
		sc.RunAsGroup = ps.RunAsGroup
	}
	if sc.RunAsNonRoot == nil {
		sc.RunAsNonRoot = ps.RunAsNonRoot
	}
	if sc.SeccompProfile == nil {
		sc.SeccompProfile = ps.SeccompProfile
	}
	if sc.AppArmorProfile == nil {
		sc.AppArmorProfile = ps.AppArmorProfile
	}
	if sc.SELinuxOptions == nil {
		sc.SELinuxOptions = ps.SELinuxOptions
	}
	return sc
}

func isTrue(b *bool) bool { return b != nil && *b }

// user finds out who the container's process runs as, and refuses root where
// the pod demands another.
func (s *Steps) user(ctx context.Context, r *Run, sc *corev1.SecurityContext) (runtime.User, error) {
	p := r.Pod.Pod
	name := r.Image.Config.User
	if isTrue(sc.RunAsNonRoot) {
		who := fmt.Sprintf("(pod: %q, container: %s)", IdentOf(p).String(), r.Member.Name)
		switch uid, numeric := numericUser(name); {
		case sc.RunAsUser != nil && *sc.RunAsUser == 0:
			return runtime.User{}, fmt.Errorf("container's runAsUser breaks non-root policy %s", who)
		case sc.RunAsUser != nil:
		case numeric && uid == 0:
			return runtime.User{}, fmt.Errorf("container has runAsNonRoot and image will run as root %s", who)
		case !numeric:
			return runtime.User{}, fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", name, who)
		}
	}
	if sc.RunAsUser != nil {
		name = strconv.FormatInt(*sc.RunAsUser, 10)
	}
	u, err := s.Runtime.ResolveUser(ctx, r.Spec.Rootfs, name)
	if err != nil {
		return runtime.User{}, fmt.Errorf("cannot find user %q of the image: %w", name, err)
	}
	groups := u.Groups
	ps := p.Spec.SecurityContext
	if ps != nil && ps.SupplementalGroupsPolicy != nil && *ps.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict {
		groups = nil
	}
	if sc.RunAsGroup != nil {
		u.GID = uint32(*sc.RunAsGroup)
	}
	add := func(g int64) {
		if !slices.Contains(groups, uint32(g)) {
			groups = append(groups, uint32(g))
		}
	}
	add(int64(u.GID))
	if ps != nil {
		for _, g := range ps.SupplementalGroups {
			add(g)
		}
		if ps.FSGroup != nil {
			add(*ps.FSGroup)
		}
	}
	u.Groups = groups
	return u, nil
}

// numericUser splits the USER of an image, when it is a number. An empty one is
// root.
func numericUser(user string) (uid int64, ok bool) {
	name, _, _ := strings.Cut(user, ":")
	if name == "" {
		return 0, true
	}
	uid, err := strconv.ParseInt(name, 10, 64)
	return uid, err == nil
}

// security translates a security context for the runtime.
func (s *Steps) security(r *Run, sc *corev1.SecurityContext) (runtime.Security, error) {
	sec := runtime.Security{
		Privileged:      isTrue(sc.Privileged),
		NoNewPrivileges: sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation,
		ReadOnlyRootfs:  isTrue(sc.ReadOnlyRootFilesystem),
	}
	if sc.Capabilities != nil {
		for _, c := range sc.Capabilities.Add {
			sec.AddCapabilities = append(sec.AddCapabilities, string(c))
		}
		for _, c := range sc.Capabilities.Drop {
			sec.DropCapabilities = append(sec.DropCapabilities, string(c))
		}
	}
	if sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount {
		sec.MaskedPaths, sec.ReadonlyPaths = []string{}, []string{}
	}
	switch pr := sc.SeccompProfile; {
	case sec.Privileged:
	case pr == nil:
		if s.cfg.SeccompDefault {
			sec.Seccomp.Type = runtime.SeccompRuntimeDefault
		}
	case pr.Type == corev1.SeccompProfileTypeRuntimeDefault:
		sec.Seccomp.Type = runtime.SeccompRuntimeDefault
	case pr.Type == corev1.SeccompProfileTypeLocalhost:
		if pr.LocalhostProfile == nil || !filepath.IsLocal(*pr.LocalhostProfile) {
			return sec, fmt.Errorf("localhostProfile must be a path below the node's seccomp directory")
		}
		sec.Seccomp = runtime.Seccomp{Type: runtime.SeccompLocalhost, Path: filepath.Join(s.cfg.SeccompDir, *pr.LocalhostProfile)}
	case pr.Type == corev1.SeccompProfileTypeUnconfined:
	default:
		return sec, fmt.Errorf("unknown seccomp profile type %q", pr.Type)
	}
	if a := sc.AppArmorProfile; a != nil {
		switch a.Type {
		case corev1.AppArmorProfileTypeLocalhost:
			if a.LocalhostProfile != nil {
				sec.AppArmorProfile = *a.LocalhostProfile
			}
		case corev1.AppArmorProfileTypeRuntimeDefault:
			// Without AppArmor there is nothing to apply, as upstream has it.
			if s.cfg.AppArmor {
				sec.AppArmorProfile = "runtime/default"
			}
		}
	}
	return sec, nil
}

// oomScore is how early the kernel may kill the container.
func (s *Steps) oomScore(r *Run) int {
	return pod.OOMScoreAdj(r.Pod.Pod, r.Member, s.cfg.Capacity.MemoryBytes)
}
