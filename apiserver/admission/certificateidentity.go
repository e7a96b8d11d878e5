package admission

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"

	"sagong/apiserver/resource"
)

// CertificateIdentity writes into a certificate request who makes it, whatever
// the request says. Upstream does this in the storage of the kind.
type CertificateIdentity struct{}

// Name implements Plugin.
func (CertificateIdentity) Name() string { return "CertificateIdentity" }

// Admit implements Mutator.
func (CertificateIdentity) Admit(_ context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || !on(a, certificatesv1.GroupName, "certificatesigningrequests") || a.User == nil {
		return nil
	}
	spec := &a.Object.(*certificatesv1.CertificateSigningRequest).Spec
	spec.Username, spec.UID, spec.Groups, spec.Extra = a.User.GetName(), a.User.GetUID(), a.User.GetGroups(), nil
	for k, v := range a.User.GetExtra() {
		if spec.Extra == nil {
			spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		spec.Extra[k] = v
	}
	return nil
}
