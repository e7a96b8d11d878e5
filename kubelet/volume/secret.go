package volume

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// secret shows the keys of a Secret as files that never reach a disk, kept
// current.
type secret struct{ m *Manager }

func (secret) Handles(v *corev1.Volume) bool { return v.Secret != nil }

func (secret) Live() bool { return true }

func (c secret) Mount(ctx context.Context, r *Request) (string, error) {
	if err := c.m.openMemory(); err != nil {
		return "", err
	}
	s := r.Volume.Secret
	files := Payload{}
	if err := c.m.secretPayload(ctx, files, r.Pod.Namespace, s.SecretName, s.Items, modeOr(s.DefaultMode, defaultMode), s.Optional); err != nil {
		return "", err
	}
	dir := r.memoryDir("kubernetes.io~secret")
	return dir, writeAtomic(dir, files, r.Pod)
}
