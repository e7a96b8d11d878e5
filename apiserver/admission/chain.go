// Package admission holds the rules that change and judge writes beyond what a
// kind's own definition says: one file a rule, under upstream's names. All lists
// them in the order in which they are asked.
package admission

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver/resource"
)

// Plugin is one rule. It is also a Mutator, a Validator or both.
type Plugin interface {
	// Name is upstream's name of the rule.
	Name() string
}

// Mutator may change the object of a write.
type Mutator interface {
	Admit(ctx context.Context, a *resource.Attributes) error
}

// Validator may refuse a write.
type Validator interface {
	Validate(ctx context.Context, a *resource.Attributes) error
}

// Rounder is a Mutator whose changes those before it may have to judge again.
type Rounder interface {
	Mutator
	// AsksAgain says that Admit may set the Again of a write.
	AsksAgain()
}

// Chain asks rules in order: all that change, then, after the kind's own
// validation, all that judge. When a webhook or a policy changed the object, it
// and all before it are asked a second time. It implements resource.Admission.
type Chain struct {
	// Metrics measure the rules; nil measures nothing.
	Metrics *Metrics

	mutators   []named[Mutator]
	rounders   int // how many mutators are asked again: up to the last Rounder
	validators []named[Validator]
	after      []resource.AfterWrite
}

// NewChain lists the rules.
func NewChain(plugins ...Plugin) *Chain {
	c := &Chain{}
	for _, p := range plugins {
		if m, ok := p.(Mutator); ok {
			c.mutators = append(c.mutators, named[Mutator]{p.Name(), m})
			if _, ok := p.(Rounder); ok {
				c.rounders = len(c.mutators)
			}
		}
		if v, ok := p.(Validator); ok {
			c.validators = append(c.validators, named[Validator]{p.Name(), v})
		}
		if w, ok := p.(resource.AfterWrite); ok {
			c.after = append(c.after, w)
		}
	}
	return c
}

// Admit implements resource.Admission. When a rule refuses, those that reserved
// something for the write hear of it.
func (c *Chain) Admit(ctx context.Context, a *resource.Attributes) error {
	return c.step("admit", a, func() error {
		err := c.admit(ctx, a, c.mutators[:c.rounders])
		if err == nil && a.Again {
			a.Round = 1
			err = c.admit(ctx, a, c.mutators[:c.rounders])
		}
		if err == nil {
			err = c.admit(ctx, a, c.mutators[c.rounders:])
		}
		if err != nil {
			c.AfterWrite(ctx, a, err)
		}
		return err
	})
}

func (c *Chain) admit(ctx context.Context, a *resource.Attributes, rules []named[Mutator]) error {
	return ask(c.Metrics, "admit", a, rules, func(m Mutator) error { return m.Admit(ctx, a) })
}

// Validate implements resource.Admission.
func (c *Chain) Validate(ctx context.Context, a *resource.Attributes) error {
	return c.step("validate", a, func() error {
		return ask(c.Metrics, "validate", a, c.validators, func(v Validator) error { return v.Validate(ctx, a) })
	})
}

func (c *Chain) step(sort string, a *resource.Attributes, do func() error) error {
	if c.Metrics == nil {
		return do()
	}
	begin := time.Now()
	err := do()
	c.Metrics.observe("", sort, a, time.Since(begin), err != nil)
	return err
}

// AfterWrite implements resource.AfterWrite.
func (c *Chain) AfterWrite(ctx context.Context, a *resource.Attributes, err error) {
	for _, w := range c.after {
		w.AfterWrite(ctx, a, err)
	}
}

func forbidden(a *resource.Attributes, format string, args ...any) error {
	return apierrors.NewForbidden(a.Definition.GR(), a.Name, fmt.Errorf(format, args...))
}

// on tells whether a write is about a resource (not one of its subresources).
func on(a *resource.Attributes, group, res string) bool {
	return a.Subresource == "" && a.Definition.Resource == res && a.Definition.Group == group
}

var podResource = schema.GroupResource{Resource: "pods"}

func onPodCreate(a *resource.Attributes) bool {
	return a.Operation == resource.Create && a.Subresource == "" && a.Definition.GR() == podResource
}

// onPodWrite is the pod that is created or updated; nil for all other writes.
func onPodWrite(a *resource.Attributes) *corev1.Pod {
	if a.Operation != resource.Create && a.Operation != resource.Update || a.Subresource != "" || a.Definition.GR() != podResource {
		return nil
	}
	p, _ := a.Object.(*corev1.Pod)
	return p
}
