package admission

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sagong/apiserver/resource"
)

// DenyServiceExternalIPs refuses external addresses that a Service does not have
// yet. It is off unless asked for.
type DenyServiceExternalIPs struct{}

// Name implements Plugin.
func (DenyServiceExternalIPs) Name() string { return "DenyServiceExternalIPs" }

// Validate implements Validator.
func (DenyServiceExternalIPs) Validate(_ context.Context, a *resource.Attributes) error {
	now, ok := a.Object.(*corev1.Service)
	if !ok || !on(a, "", "services") {
		return nil
	}
	var before []string
	if a.Old != nil {
		before = a.Old.(*corev1.Service).Spec.ExternalIPs
	}
	for _, ip := range now.Spec.ExternalIPs {
		if !slices.Contains(before, ip) {
			return refuse(a, errors.New("Use of external IPs is denied by admission control")) //nolint:staticcheck // upstream's text
		}
	}
	return nil
}
