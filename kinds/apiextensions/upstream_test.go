package apiextensions

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"sagong/kinds/field"
)

// one in so many ways to break a definition is tried; with 1, all are.
const every = 7

// TestFaultsAsUpstream breaks definitions in every place, one at a time, and holds
// what is found wrong with each, new or as a change, to what upstream finds.
func TestFaultsAsUpstream(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := internal.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, text := range []string{full, several, rules} {
		var base map[string]any
		if err := yaml.Unmarshal([]byte(text), &base); err != nil {
			t.Fatal(err)
		}
		whole := read(t, base)
		if faults := foundHere(whole, nil); len(faults) > 0 {
			t.Fatalf("%s: %q", whole.Name, faults)
		}
		established := whole.DeepCopy()
		established.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
		prepare(established, nil)
		breakAll(base, nil, func(how string) {
			if tried++; tried%every != 0 {
				return
			}
			broken, ok := tryRead(base)
			if !ok {
				return // no definition at all
			}
			compare := func(what string, c, old *apiextensionsv1.CustomResourceDefinition) {
				c = c.DeepCopy()
				want, ok := foundUpstream(t, scheme, c, old)
				if got := foundHere(c, old); ok && !slices.Equal(got, want) {
					t.Errorf("%s %s, %s:\n%s\nupstream\n%s", whole.Name, how, what, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
			compare("new", broken, nil)
			compare("a change", broken, established)
			was := broken.DeepCopy()
			prepare(was, nil)
			compare("unchanged", broken, was)
			compare("mended", whole, was)
		})
	}
}

func read(t *testing.T, tree map[string]any) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	c, ok := tryRead(tree)
	if !ok {
		t.Fatal("no definition")
	}
	return c
}

func tryRead(tree map[string]any) (*apiextensionsv1.CustomResourceDefinition, bool) {
	b, err := json.Marshal(tree)
	if err != nil {
		return nil, false
	}
	c := &apiextensionsv1.CustomResourceDefinition{}
	if json.Unmarshal(b, c) != nil {
		return nil, false
	}
	CustomResourceDefinition().Default(c)
	return c, true
}

// prepare does what precedes validation.
func prepare(c, old *apiextensionsv1.CustomResourceDefinition) {
	if old == nil {
		conditions := c.Status.Conditions
		CustomResourceDefinition().PrepareCreate(nil, c)
		c.Status.Conditions = conditions
		return
	}
	c.Status = *old.Status.DeepCopy()
	CustomResourceDefinition().PrepareUpdate(nil, c, old)
}

func foundHere(c, old *apiextensionsv1.CustomResourceDefinition) []string {
	c = c.DeepCopy()
	prepare(c, old)
	if old == nil {
		return texts(CustomResourceDefinition().Validate(c))
	}
	return texts(CustomResourceDefinition().ValidateUpdate(c, old))
}

// foundUpstream is nil and false where upstream's validation panics: it looks for
// selectable fields in schemas that it could not read.
func foundUpstream(t *testing.T, scheme *runtime.Scheme, c, old *apiextensionsv1.CustomResourceDefinition) (found []string, ok bool) {
	t.Helper()
	defer func() { ok = recover() == nil }()
	c = c.DeepCopy()
	prepare(c, old)
	convert := func(c *apiextensionsv1.CustomResourceDefinition) *internal.CustomResourceDefinition {
		out := &internal.CustomResourceDefinition{}
		if err := scheme.Convert(c.DeepCopy(), out, nil); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if old == nil {
		return texts(validation.ValidateCustomResourceDefinition(t.Context(), convert(c))), true
	}
	return texts(validation.ValidateCustomResourceDefinitionUpdate(t.Context(), convert(c), convert(old))), true
}

// typeName is a name in texts of expressions that holds the time.
var typeName = regexp.MustCompile(`selfType[0-9]+`)

// texts leaves out what is said of metadata, which is the same for all kinds.
func texts(errs field.ErrorList) (all []string) {
	for _, e := range errs {
		if !strings.HasPrefix(e.Field, "metadata") {
			all = append(all, typeName.ReplaceAllString(e.Error(), "selfType"))
		}
	}
	return all
}

// breakAll changes every value of a tree in several ways, one after the other, and
// puts it back.
func breakAll(v any, path []string, try func(how string)) {
	at := strings.Join(path, ".")
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if len(path) == 0 && k != "spec" {
				continue
			}
			was := v[k]
			breakAll(was, append(path, k), try)
			delete(v, k)
			try(at + "." + k + " gone")
			for _, other := range others(was) {
				v[k] = other
				try(fmt.Sprintf("%s.%s %.30v", at, k, other))
			}
			v[k] = was
		}
	case []any:
		for i, was := range v {
			breakAll(was, append(path, fmt.Sprint(i)), try)
			for _, other := range others(was) {
				v[i] = other
				try(fmt.Sprintf("%s[%d] %.30v", at, i, other))
			}
			v[i] = was
		}
	}
}

// others are values that might stand in a value's place.
func others(v any) []any {
	switch v := v.(type) {
	case string:
		return []any{"", "Not a name!", "array", "object", "string", "integer", strings.Repeat("x", 70), v + "x"}
	case bool:
		return []any{!v}
	case float64:
		return []any{-v - 1, v + 1000, 0.5}
	case []any:
		if len(v) == 0 {
			return nil
		}
		return []any{[]any{}, append(slices.Clone(v), v[0]), v[1:], append(slices.Clone(v), v...)}
	case map[string]any:
		return []any{map[string]any{}}
	}
	return nil
}

const full = `
metadata: {name: gadgets.all.example.org}
spec:
  group: all.example.org
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, listKind: GadgetList, shortNames: [gd, gg], categories: [all]}
  preserveUnknownFields: false
  versions:
  - name: v1
    served: true
    storage: true
    deprecated: true
    deprecationWarning: go away
    selectableFields: [{jsonPath: .spec.color}, {jsonPath: .spec.size}]
    additionalPrinterColumns: [{name: Color, type: string, jsonPath: .spec.color, format: byte, description: the color, priority: 1}]
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}}
    schema:
      openAPIV3Schema:
        description: Gadget is a thing
        type: object
        required: [spec]
        properties:
          metadata: {type: object, properties: {name: {type: string, maxLength: 20}}}
          spec:
            type: object
            required: [color]
            properties:
              color: {type: string, enum: [red, blue], default: red}
              size: {type: integer, format: int32, minimum: 1, maximum: 10, exclusiveMaximum: false, multipleOf: 1, default: 2}
              replicas: {type: integer}
              port: {x-kubernetes-int-or-string: true}
              either: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {known: {type: string}}}
              nullable: {type: string, nullable: true}
              map: {type: object, minProperties: 0, maxProperties: 5, additionalProperties: {type: object, properties: {a: {type: string, default: b}}}}
              keyed: {type: array, maxItems: 5, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name], items: {type: object, required: [name], properties: {name: {type: string}}}}
              set: {type: array, minItems: 1, uniqueItems: false, x-kubernetes-list-type: set, items: {type: string, maxLength: 5}}
              whole: {type: object, x-kubernetes-map-type: atomic, properties: {a: {type: string}}}
              template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
              one: {type: object, properties: {a: {type: string}, b: {type: string}}, oneOf: [{required: [a]}, {required: [b]}], not: {required: [c]}, allOf: [{properties: {a: {maxLength: 3}}}]}
              raw: {x-kubernetes-preserve-unknown-fields: true}
              text: {type: string, format: date-time, pattern: "^x", minLength: 1, title: text, externalDocs: {url: "https://example.org", description: more}, example: now}
          status: {type: object, properties: {replicas: {type: integer}, selector: {type: string}}}
`

const rules = `
metadata: {name: rules.all.example.org}
spec:
  group: all.example.org
  scope: Namespaced
  names: {plural: rules, singular: rule, kind: Rule, listKind: RuleList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations: [{rule: "self.size > 0", message: too small, reason: FieldValueInvalid, fieldPath: .size}, {rule: "self.color == oldSelf.color", messageExpression: "'is ' + self.color", optionalOldSelf: false}]
            properties:
              color: {type: string}
              size: {type: integer}
`

const several = `
metadata: {name: multis.all.example.org}
spec:
  group: all.example.org
  scope: Cluster
  names: {plural: multis, singular: multi, kind: Multi, listKind: MultiList}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1, v1beta1]
      clientConfig: {service: {name: svc, namespace: ns, path: /convert, port: 443}}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}}}}, subresources: {status: {}}, additionalPrinterColumns: [{name: A, type: date, jsonPath: .a}]}
  - {name: v2, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {b: {type: string}}}}, subresources: {scale: {specReplicasPath: .spec.n, statusReplicasPath: .status.n}}, additionalPrinterColumns: [{name: B, type: integer, jsonPath: .b}]}
  - {name: v3, served: false, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`
