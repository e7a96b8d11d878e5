package admission

import (
	"context"
	"errors"

	"sagong/apiserver/resource"
)

// AlwaysAdmit judges nothing. It is off unless asked for.
type AlwaysAdmit struct{}

// Name implements Plugin.
func (AlwaysAdmit) Name() string { return "AlwaysAdmit" }

// AlwaysDeny refuses all writes but the server's own. It is off unless asked for.
type AlwaysDeny struct{}

// Name implements Plugin.
func (AlwaysDeny) Name() string { return "AlwaysDeny" }

// Admit implements Mutator.
func (d AlwaysDeny) Admit(ctx context.Context, a *resource.Attributes) error {
	return d.Validate(ctx, a)
}

// Validate implements Validator.
func (AlwaysDeny) Validate(_ context.Context, a *resource.Attributes) error {
	if a.User != nil && a.User.GetName() == serverUser {
		return nil
	}
	return refuse(a, errors.New("admission control is denying all modifications"))
}

// serverUser makes what a cluster starts with.
const serverUser = "system:apiserver"
