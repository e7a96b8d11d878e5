package volume

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// configMap shows the keys of a ConfigMap as files, kept current.
type configMap struct{ m *Manager }

func (configMap) Handles(v *corev1.Volume) bool { return v.ConfigMap != nil }

func (configMap) Live() bool { return true }

func (c configMap) Mount(ctx context.Context, r *Request) (string, error) {
	s := r.Volume.ConfigMap
	files := Payload{}
	if err := c.m.configMapPayload(ctx, files, r.Pod.Namespace, s.Name, s.Items, modeOr(s.DefaultMode, defaultMode), s.Optional); err != nil {
		return "", err
	}
	dir := r.dir("kubernetes.io~configmap")
	return dir, writeAtomic(dir, files, r.Pod)
}
