package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
	"sagong/runtime"
)

// Annotations that tell the agent, after a restart, what it needs to know of
// an attempt and the runtime does not.
const (
	annotationBackoff   = "backoff"
	annotationImage     = "image"
	annotationResources = "resources"
	annotationUser      = "user"
	annotationMessage   = "message-path"
	annotationPolicy    = "message-policy"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// definitionStep guarantees that Run.Spec says everything about the container;
// nothing of it was left out silently. What cannot be is CreateContainerConfigError.
type definitionStep struct{ s *Steps }

func (definitionStep) Name() string { return "definition" }

func (d definitionStep) Do(ctx context.Context, r *Run) error {
	err := d.s.define(ctx, r)
	if err == nil || ctx.Err() != nil {
		return err
	}
	d.s.event(r, corev1.EventTypeWarning, "Failed", "Error: %v", err)
	return &Failure{Reason: "CreateContainerConfigError", Message: err.Error(), RetryAfter: 10 * time.Second, Err: err}
}

func (s *Steps) define(ctx context.Context, r *Run) error {
	p, c := r.Pod.Pod, r.Member.Container
	layers := slices.Clone(r.Image.LowerDirs())
	slices.Reverse(layers) // the runtime wants the lowest first
	r.Spec = runtime.Container{
		ID: r.ID, SandboxUID: string(p.UID), Name: c.Name, Attempt: r.Attempt,
		Image: imageName(r), ImageID: imageID(r),
		Rootfs: runtime.Rootfs{Layers: layers},
		Cwd:    c.WorkingDir, TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce,
		LogPath:     LogPath(s.cfg.LogDir, IdentOf(p), c.Name, r.Attempt),
		Resources:   pod.ContainerLimits(p, r.Member, s.cfg.Capacity),
		OOMScoreAdj: s.oomScore(r),
		Labels:      map[string]string{labelPodName: p.Name, labelPodNamespace: p.Namespace, labelPodUID: string(p.UID), labelContainer: c.Name},
	}
	spec := &r.Spec
	if spec.Cwd == "" {
		spec.Cwd = r.Image.Config.WorkingDir
	}
	if len(c.VolumeDevices) > 0 {
		return errors.New("block devices (volumeDevices) are not supported by this node")
	}

	env, warnings, err := s.environment(ctx, r)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		s.event(r, corev1.EventTypeWarning, "InvalidEnvironmentVariableNames", "%s", w)
	}
	hostname, err := s.Hostname(p)
	if err != nil {
		return err
	}
	spec.Env = merge(r.Image.Config.Env, "HOSTNAME="+hostname, env.list())
	if err := s.command(r, env); err != nil {
		return err
	}

	sc := effective(p, c)
	if spec.User, err = s.user(ctx, r, sc); err != nil {
		return err
	}
	if spec.Security, err = s.security(r, sc); err != nil {
		return err
	}
	if spec.Mounts, err = s.mounts(r, env, spec.Security.Privileged); err != nil {
		return err
	}
	if err := s.inject(r); err != nil {
		return err
	}
	if spec.StopSignal, err = stopSignal(r); err != nil {
		return err
	}
	if err := s.target(ctx, r); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(spec.LogPath), 0o755); err != nil {
		return fmt.Errorf("cannot make log directory: %w", err)
	}
	return s.annotate(r)
}

// merge puts the container's variables over those of the image.
func merge(imageEnv []string, host string, own []string) []string {
	e := &environment{values: map[string]string{}}
	for _, list := range [][]string{{defaultPath}, imageEnv, {host}, own} {
		for _, v := range list {
			name, value, _ := strings.Cut(v, "=")
			e.set(name, value)
		}
	}
	return e.list()
}

// command chooses between the image's command and the pod's.
func (s *Steps) command(r *Run, env *environment) error {
	look := func(n string) (string, bool) { v, ok := env.values[n]; return v, ok }
	expand := func(in []string) []string {
		out := make([]string, len(in))
		for i, a := range in {
			out[i] = Expand(a, look)
		}
		return out
	}
	command, args := expand(r.Member.Command), expand(r.Member.Args)
	if len(command) == 0 {
		command = r.Image.Config.Entrypoint
		if len(args) == 0 {
			args = r.Image.Config.Cmd
		}
	}
	r.Spec.Args = append(slices.Clone(command), args...)
	if len(r.Spec.Args) == 0 {
		return errors.New("no command specified")
	}
	return nil
}

// mounts lists volumes, the pod's host files and the termination message file.
func (s *Steps) mounts(r *Run, env *environment, privileged bool) ([]runtime.Mount, error) {
	p, c := r.Pod.Pod, r.Member.Container
	var out []runtime.Mount
	taken := map[string]bool{}
	for i, vm := range c.VolumeMounts {
		src, ok := r.Pod.Paths[vm.Name]
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", vm.Name, c.Name)
		}
		sub := vm.SubPath
		if vm.SubPathExpr != "" {
			var unknown string
			sub = Expand(vm.SubPathExpr, func(n string) (string, bool) {
				v, ok := env.values[n]
				if !ok {
					unknown = n
				}
				return v, ok
			})
			if unknown != "" {
				return nil, fmt.Errorf("missing value for %q", unknown)
			}
		}
		if sub != "" {
			if filepath.IsAbs(sub) {
				return nil, fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
			}
			if slices.Contains(strings.Split(sub, "/"), "..") {
				return nil, fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
			}
			pinned, err := s.Volumes.SubPath(p, vm.Name, src, c.Name, i, sub)
			if err != nil {
				return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", vm.Name, c.Name, err)
			}
			src = pinned
		}
		target := vm.MountPath
		if !filepath.IsAbs(target) {
			target = filepath.Join("/", target)
		}
		m := runtime.Mount{Source: src, Target: target, ReadOnly: vm.ReadOnly || s.readOnlyVolume(p, vm.Name)}
		if vm.RecursiveReadOnly != nil {
			m.RecursiveReadOnly = *vm.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled
		}
		if vm.MountPropagation != nil {
			switch *vm.MountPropagation {
			case corev1.MountPropagationHostToContainer:
				m.Propagation = runtime.PropagationHostToContainer
			case corev1.MountPropagationBidirectional:
				if !privileged {
					return nil, fmt.Errorf("mount propagation Bidirectional of volume %q needs a privileged container", vm.Name)
				}
				m.Propagation = runtime.PropagationBidirectional
			}
		}
		taken[filepath.Clean(target)] = true
		out = append(out, m)
	}
	dir := s.Volumes.PodDir(p.UID)
	for target, name := range map[string]string{"/etc/hosts": "etc-hosts", "/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname"} {
		if !taken[target] && !taken["/etc"] {
			out = append(out, runtime.Mount{Source: filepath.Join(dir, name), Target: target})
		}
	}
	if path := c.TerminationMessagePath; path != "" && !taken[filepath.Clean(path)] {
		file := s.messagePath(r)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, fmt.Errorf("cannot make termination message file: %w", err)
		}
		f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
		if err != nil {
			return nil, fmt.Errorf("cannot make termination message file: %w", err)
		}
		f.Close()
		// The umask must not keep a user other than root from writing it.
		if err := os.Chmod(file, 0o666); err != nil {
			return nil, fmt.Errorf("cannot make termination message file: %w", err)
		}
		out = append(out, runtime.Mount{Source: file, Target: filepath.Join("/", path)})
	}
	slices.SortStableFunc(out, func(a, b runtime.Mount) int {
		// Parents before what is mounted below them.
		return strings.Count(filepath.Clean(a.Target), "/") - strings.Count(filepath.Clean(b.Target), "/")
	})
	return out, nil
}

// readOnlyVolume says that nobody may write to a volume: the pod says so, or it
// is made of API objects and would be overwritten anyway.
func (s *Steps) readOnlyVolume(p *corev1.Pod, name string) bool {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.Name == name {
			return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil || v.Image != nil ||
				v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly || v.NFS != nil && v.NFS.ReadOnly
		}
	}
	return false
}

func (s *Steps) messagePath(r *Run) string {
	return filepath.Join(s.Volumes.PodDir(r.Pod.UID), "containers", r.Member.Name, strconv.Itoa(r.Attempt))
}

// target finds the container whose processes an ephemeral container sees.
func (s *Steps) target(ctx context.Context, r *Run) error {
	if r.Member.Target == "" {
		return nil
	}
	list, err := s.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("cannot find target container %q: %w", r.Member.Target, err)
	}
	for _, sb := range list {
		if sb.Sandbox.UID != string(r.Pod.UID) {
			continue
		}
		for _, c := range sb.Containers {
			if c.Name == r.Member.Target && c.State == runtime.StateRunning {
				r.Spec.TargetID = c.ID
			}
		}
	}
	if r.Spec.TargetID == "" {
		return fmt.Errorf("unable to find target container %s", r.Member.Target)
	}
	return nil
}

// stopSignal is the signal to end the container with: the pod's, or the image's.
func stopSignal(r *Run) (int, error) {
	name := r.Image.Config.StopSignal
	if l := r.Member.Lifecycle; l != nil && l.StopSignal != nil {
		name = string(*l.StopSignal)
	}
	if name == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	full := name
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if n := unix.SignalNum(full); n != 0 {
		return int(n), nil
	}
	if base, off, ok := strings.Cut(strings.TrimPrefix(full, "SIG"), "+"); ok && base == "RTMIN" {
		if n, err := strconv.Atoi(off); err == nil && n >= 0 && n <= 30 {
			return 34 + n, nil
		}
	}
	return 0, fmt.Errorf("unknown stop signal %q", name)
}

// imageName is the name that status shows, in full.
func imageName(r *Run) string {
	for _, t := range r.Image.RepoTags {
		if t == r.Member.Image || strings.HasSuffix(t, "/"+r.Member.Image) || strings.HasSuffix(t, "/"+r.Member.Image+":latest") {
			return t
		}
	}
	return r.Member.Image
}

// imageID names the content that runs: by the digest it was pulled by, or by
// its own.
func imageID(r *Run) string {
	for _, d := range r.Image.RepoDigests {
		if repo, _, _ := strings.Cut(d, "@"); strings.HasPrefix(imageName(r), repo) {
			return d
		}
	}
	if len(r.Image.RepoDigests) > 0 {
		return r.Image.RepoDigests[0]
	}
	return r.Image.ID
}

// annotate records what the agent wants to find again.
func (s *Steps) annotate(r *Run) error {
	res, err := json.Marshal(r.Member.Resources)
	if err != nil {
		return fmt.Errorf("cannot record resources: %w", err)
	}
	u := r.Spec.User
	lu := corev1.LinuxContainerUser{UID: int64(u.UID), GID: int64(u.GID)}
	for _, g := range u.Groups {
		lu.SupplementalGroups = append(lu.SupplementalGroups, int64(g))
	}
	user, err := json.Marshal(lu)
	if err != nil {
		return fmt.Errorf("cannot record user: %w", err)
	}
	r.Spec.Annotations = map[string]string{
		annotationBackoff: r.Backoff.String(), annotationImage: r.Member.Image,
		annotationResources: string(res), annotationUser: string(user),
	}
	if r.Member.TerminationMessagePath != "" {
		r.Spec.Annotations[annotationMessage] = s.messagePath(r)
		r.Spec.Annotations[annotationPolicy] = string(r.Member.TerminationMessagePolicy)
	}
	return nil
}
