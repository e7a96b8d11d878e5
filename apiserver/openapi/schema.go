package openapi

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Schema is the schema of a kind with everything it refers to put in its place.
// What refers to itself is left open. It returns nil for a kind without one.
func (h *Handler) Schema(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.load(); err != nil {
		return nil, err
	}
	for _, k := range h.kinds(gvk.GroupVersion()) {
		if k.gvk != gvk {
			continue
		}
		raw := h.schemas[k.model]
		if d := k.def.Dynamic; d != nil {
			if d.Model == nil {
				return nil, nil
			}
			m, err := d.Model()
			if err != nil {
				return nil, err
			}
			raw = m.V3
		}
		if raw == nil {
			return nil, nil
		}
		return h.resolve(raw, nil)
	}
	return nil, nil
}

// resolve reads a schema; within are the models it is part of.
func (h *Handler) resolve(raw json.RawMessage, within []string) (*spec.Schema, error) {
	s := &spec.Schema{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("cannot read a schema: %w", err)
	}
	return s, h.resolveIn(s, within)
}

func (h *Handler) resolveIn(s *spec.Schema, within []string) error {
	// A reference with a default beside it is wrapped in allOf.
	ref := s.Ref.String()
	if ref == "" && len(s.AllOf) == 1 {
		ref = s.AllOf[0].Ref.String()
	}
	if name, ok := strings.CutPrefix(ref, refPrefix); ok {
		for _, w := range within {
			if w == name {
				*s = spec.Schema{VendorExtensible: spec.VendorExtensible{Extensions: spec.Extensions{"x-kubernetes-preserve-unknown-fields": true}}}
				s.Type = []string{"object"}
				return nil
			}
		}
		to, err := h.resolve(h.schemas[name], append(within[:len(within):len(within)], name))
		if err != nil {
			return err
		}
		to.Default = s.Default
		*s = *to
		return nil
	}
	for name, p := range s.Properties {
		if err := h.resolveIn(&p, within); err != nil {
			return err
		}
		s.Properties[name] = p
	}
	if s.Items != nil && s.Items.Schema != nil {
		if err := h.resolveIn(s.Items.Schema, within); err != nil {
			return err
		}
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		return h.resolveIn(s.AdditionalProperties.Schema, within)
	}
	return nil
}
