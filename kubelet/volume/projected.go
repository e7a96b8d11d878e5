package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
)

// projected merges several sources into one volume that never reaches a disk,
// kept current. Tokens in it are renewed at four fifths of their life.
type projected struct{ m *Manager }

func (projected) Handles(v *corev1.Volume) bool { return v.Projected != nil }

func (projected) Live() bool { return true }

func (c projected) Mount(ctx context.Context, r *Request) (string, error) {
	if err := c.m.openMemory(); err != nil {
		return "", err
	}
	s := r.Volume.Projected
	mode := modeOr(s.DefaultMode, defaultMode)
	files := Payload{}
	for _, src := range s.Sources {
		var err error
		switch {
		case src.ConfigMap != nil:
			err = c.m.configMapPayload(ctx, files, r.Pod.Namespace, src.ConfigMap.Name, src.ConfigMap.Items, mode, src.ConfigMap.Optional)
		case src.Secret != nil:
			err = c.m.secretPayload(ctx, files, r.Pod.Namespace, src.Secret.Name, src.Secret.Items, mode, src.Secret.Optional)
		case src.DownwardAPI != nil:
			err = c.m.downwardPayload(files, r.Pod, src.DownwardAPI.Items, mode)
		case src.ServiceAccountToken != nil:
			err = c.token(ctx, files, r.memoryDir("kubernetes.io~projected"), r.Pod, src.ServiceAccountToken, mode)
		case src.ClusterTrustBundle != nil:
			err = c.bundle(ctx, files, r.Pod, src.ClusterTrustBundle, mode)
		case src.PodCertificate != nil:
			err = fmt.Errorf("%w: projected podCertificate", ErrUnsupported)
		}
		if err != nil {
			return "", err
		}
	}
	dir := r.memoryDir("kubernetes.io~projected")
	return dir, writeAtomic(dir, files, r.Pod)
}

func (c projected) token(ctx context.Context, out Payload, dir string, p *corev1.Pod, s *corev1.ServiceAccountTokenProjection, mode uint32) error {
	path, err := cleanPath(s.Path)
	if err != nil {
		return err
	}
	have, _ := os.ReadFile(filepath.Join(dir, dataLink, path))
	token, err := c.m.tokens.get(ctx, p, s, string(have))
	if err != nil {
		return fmt.Errorf("failed to fetch token: %w", err)
	}
	f := File{Data: []byte(token), Mode: mode, UID: onlyUser(p)}
	// A token is for its owner, or for the group of the volume.
	if fsGroup(p) != nil || f.UID != nil {
		f.Mode = 0o600
	}
	out[path] = f
	return nil
}

// onlyUser is the user that all containers of a pod run as, when there is one.
func onlyUser(p *corev1.Pod) *int64 {
	var all *int64
	if p.Spec.SecurityContext != nil {
		all = p.Spec.SecurityContext.RunAsUser
	}
	var one *int64
	for _, m := range pod.Members(p) {
		if m.Class == pod.Ephemeral {
			continue
		}
		u := all
		if m.SecurityContext != nil && m.SecurityContext.RunAsUser != nil {
			u = m.SecurityContext.RunAsUser
		}
		if u == nil || one != nil && *one != *u {
			return nil
		}
		one = u
	}
	return one
}
