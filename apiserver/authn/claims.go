package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel"
)

func (j *JWT) username(ctx context.Context, c claims, value traits.Mapper) (string, error) {
	if m := j.cel.Username; m != nil {
		name, err := evalString(ctx, m, value, "username")
		if err == nil && name == "" {
			err = errors.New("empty username via CEL expression is not allowed")
		}
		return name, err
	}
	m := j.config.ClaimMappings.Username
	var name string
	if err := c.read(m.Claim, &name); err != nil {
		return "", fmt.Errorf("parse username claims %q: %w", m.Claim, err)
	}
	if _, says := c["email_verified"]; says && m.Claim == "email" {
		var verified bool
		if err := c.read("email_verified", &verified); err != nil {
			return "", fmt.Errorf("parse 'email_verified' claim: %w", err)
		}
		if !verified {
			return "", errors.New("email not verified")
		}
	}
	if m.Prefix != nil {
		name = *m.Prefix + name
	}
	return name, nil
}

func (j *JWT) groups(ctx context.Context, c claims, value traits.Mapper) ([]string, error) {
	m := j.config.ClaimMappings.Groups
	if raw, ok := c[m.Claim]; ok && m.Claim != "" {
		// Some issuers have one role where others have a list.
		var groups []string
		if err := json.Unmarshal(raw, &groups); err != nil {
			groups = []string{""}
			if err := json.Unmarshal(raw, &groups[0]); err != nil {
				return nil, fmt.Errorf("parse groups claim %q: %w", m.Claim, err)
			}
		}
		if m.Prefix != nil {
			for i := range groups {
				groups[i] = *m.Prefix + groups[i]
			}
		}
		return groups, nil
	}
	if j.cel.Groups == nil {
		return nil, nil
	}
	result, err := j.cel.Groups.EvalClaimMapping(ctx, value)
	if err != nil {
		return nil, fmt.Errorf("error evaluating group claim expression: %w", err)
	}
	groups, err := stringList(result.EvalResult)
	if err != nil {
		return nil, fmt.Errorf("error evaluating group claim expression: %w", err)
	}
	return groups, nil
}

func (j *JWT) uid(ctx context.Context, c claims, value traits.Mapper) (string, error) {
	if claim := j.config.ClaimMappings.UID.Claim; claim != "" {
		var uid string
		if err := c.read(claim, &uid); err != nil {
			return "", fmt.Errorf("parse uid claim %q: %w", claim, err)
		}
		return uid, nil
	}
	if j.cel.UID == nil {
		return "", nil
	}
	return evalString(ctx, j.cel.UID, value, "uid")
}

func (j *JWT) extra(ctx context.Context, c claims, value traits.Mapper) (map[string][]string, error) {
	extra := map[string][]string{}
	var id string
	if c.read("jti", &id) == nil && id != "" {
		extra[user.CredentialIDKey] = []string{credentialID(id)}
	}
	if j.cel.Extra != nil {
		results, err := j.cel.Extra.EvalClaimMappings(ctx, value)
		if err != nil {
			return nil, err
		}
		for _, r := range results {
			m, ok := r.ExpressionAccessor.(*authenticationcel.ExtraMappingExpression)
			if !ok {
				return nil, fmt.Errorf("unexpected expression %T", r.ExpressionAccessor)
			}
			values, err := stringList(r.EvalResult)
			if err != nil {
				return nil, fmt.Errorf("error evaluating extra claim expression: %s: %w", m.Expression, err)
			}
			if len(values) > 0 {
				extra[m.Key] = values
			}
		}
	}
	if len(extra) == 0 {
		return nil, nil
	}
	return extra, nil
}

func evalString(ctx context.Context, m authenticationcel.ClaimsMapper, value traits.Mapper, what string) (string, error) {
	result, err := m.EvalClaimMapping(ctx, value)
	if err != nil {
		return "", fmt.Errorf("error evaluating %s claim expression: %w", what, err)
	}
	text, ok := result.EvalResult.Value().(string)
	if !ok || result.EvalResult.Type() != celgo.StringType {
		return "", fmt.Errorf("error evaluating %s claim expression: %s claim expression must return a string", what, what)
	}
	return text, nil
}

// stringList reads what an expression returned: a string, a list of them or
// nothing; empty strings are left out.
func stringList(v ref.Val) ([]string, error) {
	bad := errors.New("expression must return a string or a list of strings")
	add := func(out []string, v any) ([]string, error) {
		if r, ok := v.(ref.Val); ok {
			v = r.Value()
		}
		s, ok := v.(string)
		if !ok {
			return nil, bad
		}
		if s == "" {
			return out, nil
		}
		return append(out, s), nil
	}
	switch v.Type().TypeName() {
	case celgo.StringType.TypeName():
		return add(nil, v)
	case celgo.NullType.TypeName():
		return nil, nil
	}
	list, ok := v.(traits.Lister)
	if !ok {
		return nil, bad
	}
	var out []string
	var err error
	for it := list.Iterator(); it.HasNext() == types.True; {
		if out, err = add(out, it.Next()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// allTrue fails with the message of the first rule that is not true.
func allTrue(results []authenticationcel.EvaluationResult) error {
	for _, r := range results {
		ok, isBool := r.EvalResult.Value().(bool)
		if !isBool || r.EvalResult.Type() != celgo.BoolType {
			return errors.New("validation expression must return a boolean")
		}
		if ok {
			continue
		}
		message := ""
		switch c := r.ExpressionAccessor.(type) {
		case *authenticationcel.ClaimValidationCondition:
			message = c.Message
		case *authenticationcel.UserValidationCondition:
			message = c.Message
		}
		return fmt.Errorf("validation expression '%s' failed: %s", r.ExpressionAccessor.GetExpression(), message)
	}
	return nil
}

func newClaimsValue(c claims) traits.Mapper {
	plain := make(map[string]any, len(c))
	for name, raw := range c {
		var v any
		if json.Unmarshal(raw, &v) == nil {
			plain[name] = v
		}
	}
	return asMapper(plain)
}

func newUserValue(u user.Info) traits.Mapper {
	return asMapper(map[string]any{"username": u.GetName(), "uid": u.GetUID(), "groups": u.GetGroups(), "extra": u.GetExtra()})
}

func asMapper(plain map[string]any) traits.Mapper {
	return unescaped(types.DefaultTypeAdapter.NativeToValue(plain)).(traits.Mapper)
}

// unescaped lets expressions name fields that are no identifiers in their
// escaped form (claims.a__dot__b), at any depth.
func unescaped(v ref.Val) ref.Val {
	switch v := v.(type) {
	case traits.Mapper:
		return unescapedMap{v}
	case traits.Lister:
		return unescapedList{v}
	}
	return v
}

type unescapedMap struct{ traits.Mapper }

func (m unescapedMap) Find(key ref.Val) (ref.Val, bool) {
	if name, ok := key.(types.String); ok {
		if plain, ok := cel.Unescape(string(name)); ok {
			key = types.String(plain)
		}
	}
	v, ok := m.Mapper.Find(key)
	return unescaped(v), ok
}

type unescapedList struct{ traits.Lister }

func (l unescapedList) Get(index ref.Val) ref.Val { return unescaped(l.Lister.Get(index)) }
