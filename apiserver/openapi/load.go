package openapi

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/schemamutation"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// load reads the schemas and says of which kinds they are; it is called with the
// lock held.
func (h *Handler) load() error {
	if h.schemas != nil {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(definitions))
	if err != nil {
		return fmt.Errorf("cannot read the schemas: %w", err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return fmt.Errorf("cannot read the schemas: %w", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("cannot read the schemas: %w", err)
	}
	for name, gvks := range h.kindsOfModels() {
		s, ok := all[name]
		if !ok {
			continue
		}
		ext, err := json.Marshal(map[string]any{kindsKey: kindsExtension(gvks...)})
		if err != nil {
			return fmt.Errorf("cannot encode the kinds of %s: %w", name, err)
		}
		// All have something to say, a description or a type.
		all[name] = slices.Concat(s[:len(s)-1], []byte(","), ext[1:])
	}
	h.schemas = all
	return nil
}

// kindsOfModels lists the kinds that have each model, as clients know them.
func (h *Handler) kindsOfModels() map[string][]schema.GroupVersionKind {
	all := map[string][]schema.GroupVersionKind{}
	add := func(model string, gvk schema.GroupVersionKind) {
		if model != "" && !slices.Contains(all[model], gvk) {
			all[model] = append(all[model], gvk)
		}
	}
	for gvk, t := range clientscheme.Scheme.AllKnownTypes() {
		add(modelName(reflect.New(t).Interface()), gvk)
	}
	served, _ := h.served()
	for _, gv := range served {
		for _, k := range h.kinds(gv) {
			if k.def.Dynamic == nil {
				add(k.model, k.gvk)
				add(k.list, gv.WithKind(k.listKind))
			}
		}
	}
	for _, gvks := range all {
		slices.SortFunc(gvks, func(a, b schema.GroupVersionKind) int {
			return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
		})
	}
	return all
}

// forV2 makes of schemas the form for clients of v2: references with something
// beside them, no defaults, and a string where it may be that or a number, since v2
// has no oneOf.
func forV2(all map[string]json.RawMessage) error {
	w := schemamutation.Walker{RefCallback: schemamutation.RefCallbackNoop, SchemaCallback: func(s *spec.Schema) *spec.Schema {
		if s.Default == nil && s.OneOf == nil && s.AllOf == nil {
			return s
		}
		plain := *s
		plain.Default = nil
		if plain.OneOf != nil {
			plain.OneOf, plain.Type = nil, []string{"string"}
		}
		if len(plain.AllOf) == 1 {
			plain.Ref, plain.AllOf = plain.AllOf[0].Ref, nil
		}
		return &plain
	}}
	for name, raw := range all {
		s := &spec.Schema{}
		if err := json.Unmarshal(raw, s); err != nil {
			return fmt.Errorf("cannot read the schema of %s: %w", name, err)
		}
		raw, err := json.Marshal(w.WalkSchema(s))
		if err != nil {
			return fmt.Errorf("cannot encode the schema of %s: %w", name, err)
		}
		all[name] = raw
	}
	return nil
}
