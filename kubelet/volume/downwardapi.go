package volume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"sagong/kubelet/pod"
)

// downwardAPI shows fields of the pod as files, kept current.
type downwardAPI struct{ m *Manager }

func (downwardAPI) Handles(v *corev1.Volume) bool { return v.DownwardAPI != nil }

func (downwardAPI) Live() bool { return true }

func (d downwardAPI) Mount(ctx context.Context, r *Request) (string, error) {
	s := r.Volume.DownwardAPI
	files := Payload{}
	if err := d.m.downwardPayload(files, r.Pod, s.Items, modeOr(s.DefaultMode, defaultMode)); err != nil {
		return "", err
	}
	dir := r.dir("kubernetes.io~downward-api")
	return dir, writeAtomic(dir, files, r.Pod)
}

func (m *Manager) downwardPayload(out Payload, p *corev1.Pod, items []corev1.DownwardAPIVolumeFile, mode uint32) error {
	for _, it := range items {
		path, err := cleanPath(it.Path)
		if err != nil {
			return err
		}
		var value string
		switch {
		case it.FieldRef != nil:
			value, err = pod.FieldValue(p, it.FieldRef.FieldPath)
		case it.ResourceFieldRef != nil:
			var alloc corev1.ResourceList
			if m.cfg.Allocatable != nil {
				alloc = m.cfg.Allocatable()
			}
			value, err = pod.ResourceValue(p, it.ResourceFieldRef.ContainerName, it.ResourceFieldRef, alloc)
		default:
			err = fmt.Errorf("downwardAPI item %q names no field", it.Path)
		}
		if err != nil {
			return err
		}
		out[path] = File{Data: []byte(value), Mode: modeOr(it.Mode, mode)}
	}
	return nil
}
