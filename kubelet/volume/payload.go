package volume

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"context"
)

// File is one file of a volume that is made of API objects.
type File struct {
	Data []byte
	Mode uint32
	// UID that owns it, when not nil.
	UID *int64
}

// Payload is the files of such a volume by relative path.
type Payload map[string]File

const defaultMode = 0o644

func modeOr(mode *int32, otherwise uint32) uint32 {
	if mode == nil {
		return otherwise
	}
	return uint32(*mode) & 0o777
}

// pick chooses the keys of an object's data that become files: all, or those
// that items name.
func pick(out Payload, data map[string][]byte, items []corev1.KeyToPath, mode uint32, optional bool) error {
	if len(items) == 0 {
		for k, v := range data {
			out[k] = File{Data: v, Mode: mode}
		}
		return nil
	}
	for _, it := range items {
		v, ok := data[it.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("references non-existent config key: %s", it.Key)
		}
		p, err := cleanPath(it.Path)
		if err != nil {
			return err
		}
		out[p] = File{Data: v, Mode: modeOr(it.Mode, mode)}
	}
	return nil
}

// cleanPath refuses paths that leave the volume or hide in its machinery.
func cleanPath(p string) (string, error) {
	c := path.Clean(p)
	if p == "" || path.IsAbs(c) || c == ".." || c == "." || strings.HasPrefix(c, "../") || strings.HasPrefix(c, "..") {
		return "", fmt.Errorf("invalid path %q in a volume", p)
	}
	return c, nil
}

func (m *Manager) configMapPayload(ctx context.Context, out Payload, ns, name string, items []corev1.KeyToPath, mode uint32, optional *bool) error {
	opt := optional != nil && *optional
	cm, err := m.objects.ConfigMap(ctx, ns, name)
	if err != nil {
		if opt && apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(out, data, items, mode, opt)
}

func (m *Manager) secretPayload(ctx context.Context, out Payload, ns, name string, items []corev1.KeyToPath, mode uint32, optional *bool) error {
	opt := optional != nil && *optional
	s, err := m.objects.Secret(ctx, ns, name)
	if err != nil {
		if opt && apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	return pick(out, s.Data, items, mode, opt)
}
