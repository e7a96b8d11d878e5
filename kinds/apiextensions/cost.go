package apiextensions

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	apiservercel "k8s.io/apiserver/pkg/cel"

	"sagong/kinds/field"
)

const (
	// ruleCostLimit bounds the estimated cost of one expression, schemaCostLimit
	// that of all expressions of a schema. Upstream's numbers.
	ruleCostLimit   = 10_000_000
	schemaCostLimit = 100_000_000
)

// place is a node of a schema as expressions see it: what type it has, and how
// often it can occur. A nil place has no expressions.
type place struct {
	parent *place
	schema *internal.JSONSchemaProps
	within bool // a rule is here or above
	// fromParent finds the type within the parent's, nil when it is not there.
	fromParent func(*celType) *celType
	known      *celType
	failed     error
	// most is how often the node can occur; nil means without bound.
	most  *uint64
	total *totalCost
}

type celType struct {
	schema *structural.Structural
	decl   *apiservercel.DeclType
}

func rootPlace(s *internal.JSONSchemaProps) *place {
	one := uint64(1)
	return &place{schema: s, within: len(s.XValidations) > 0, most: &one, total: &totalCost{}}
}

func (p *place) child(s *internal.JSONSchemaProps, in func(*celType) *celType) *place {
	if p == nil || s == nil {
		return nil
	}
	c := &place{parent: p, schema: s, within: p.within || len(s.XValidations) > 0, fromParent: in, total: p.total}
	if n := elements(p.schema); p.most != nil && n != nil {
		product := times(*p.most, *n)
		c.most = &product
	}
	return c
}

func (p *place) property(s *internal.JSONSchemaProps, name string) *place {
	return p.child(s, func(t *celType) *celType {
		prop, has := t.schema.Properties[name]
		escaped, ok := apiservercel.Escape(name)
		if !has || !ok {
			return nil
		}
		f := t.decl.Fields[escaped]
		if f == nil {
			return nil
		}
		return &celType{&prop, f.Type}
	})
}

func (p *place) items(s *internal.JSONSchemaProps) *place {
	return p.child(s, func(t *celType) *celType {
		if t.schema.Items == nil {
			return nil
		}
		return &celType{t.schema.Items, t.decl.ElemType}
	})
}

func (p *place) values(s *internal.JSONSchemaProps) *place {
	return p.child(s, func(t *celType) *celType {
		if t.schema.AdditionalProperties == nil {
			return nil
		}
		return &celType{t.schema.AdditionalProperties.Structural, t.decl.ElemType}
	})
}

// typ is the node's type: the parent's knowledge of it, or made from the schema.
func (p *place) typ() (*celType, error) {
	if p == nil || !p.within || p.known != nil || p.failed != nil {
		if p == nil {
			return nil, nil
		}
		return p.known, p.failed
	}
	if p.parent != nil {
		t, err := p.parent.typ()
		if err != nil {
			p.failed = err
			return nil, err
		}
		if t != nil {
			if p.known = p.fromParent(t); p.known != nil {
				return p.known, nil
			}
		}
	}
	ss, err := structural.NewStructural(p.schema)
	if err != nil {
		p.failed = err
		return nil, err
	}
	decl := model.SchemaDeclType(ss, p.parent == nil || p.schema.XEmbeddedResource)
	if decl == nil {
		p.failed = fmt.Errorf("unable to convert structural schema to CEL declarations")
		return nil, p.failed
	}
	p.known = &celType{ss, decl}
	return p.known, nil
}

// cost is what a rule at this place can cost in one object.
func (p *place) cost(r cel.CompilationResult) uint64 {
	if p.most != nil {
		return times(r.MaxCost, *p.most)
	}
	return times(r.MaxCost, r.MaxCardinality)
}

// elements is how many children of one sort a node can have; nil means without
// bound.
func elements(s *internal.JSONSchemaProps) *uint64 {
	one := uint64(1)
	bound := func(n *int64) *uint64 {
		if n == nil {
			return nil
		}
		u := uint64(max(*n, 0))
		return &u
	}
	switch {
	case s.Type == "object" && s.AdditionalProperties != nil:
		return bound(s.MaxProperties)
	case s.Type == "array":
		return bound(s.MaxItems)
	}
	return &one
}

func times(a, b uint64) uint64 {
	if a != 0 && math.MaxUint64/a < b {
		return math.MaxUint64
	}
	return a * b
}

// totalCost sums the cost of all expressions of a schema.
type totalCost struct {
	sum  uint64
	most []expensive // the four dearest that matter
}

type expensive struct {
	path *field.Path
	cost uint64
}

func (t *totalCost) add(p *field.Path, cost uint64) {
	if t.sum += cost; t.sum < cost {
		t.sum = math.MaxUint64
	}
	if cost < schemaCostLimit/100 {
		return
	}
	t.most = append(t.most, expensive{p, cost})
	slices.SortStableFunc(t.most, func(a, b expensive) int { return cmp.Compare(b.cost, a.cost) })
	t.most = t.most[:min(len(t.most), 4)]
}

func (t *totalCost) check(p *field.Path) (errs field.ErrorList) {
	if t.sum <= schemaCostLimit {
		return nil
	}
	for _, e := range t.most {
		errs = append(errs, field.Forbidden(e.path, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"))
	}
	return append(errs, field.Forbidden(p, tooExpensive("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", t.sum, schemaCostLimit)))
}

func tooExpensive(what string, cost, limit uint64) string {
	factor := float64(cost) / float64(limit)
	text := fmt.Sprintf("%.1fx", factor)
	switch {
	case factor > 100:
		text = "more than 100x"
	case factor < 1.5:
		text = fmt.Sprintf("%fx", factor)
	}
	return what + " exceeds budget by factor of " + text + " (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
}
