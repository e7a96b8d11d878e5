package admission

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/resource"
)

// ClusterTrustBundleAttest asks those who publish the authorities of a signer for
// the verb attest on that signer.
type ClusterTrustBundleAttest struct {
	Authorizer authorizer.UnconditionalAuthorizer
}

// Name implements Plugin.
func (ClusterTrustBundleAttest) Name() string { return "ClusterTrustBundleAttest" }

// Validate implements Validator.
func (c ClusterTrustBundleAttest) Validate(ctx context.Context, a *resource.Attributes) error {
	now, ok := a.Object.(*certificatesv1.ClusterTrustBundle)
	if !ok || now.Spec.SignerName == "" || a.Operation != resource.Create && a.Operation != resource.Update {
		return nil
	}
	if old, ok := a.Old.(*certificatesv1.ClusterTrustBundle); ok && equality.Semantic.DeepEqual(old.Spec, now.Spec) {
		return nil
	}
	if !(CertificateApproval{c.Authorizer}).may(ctx, a, "attest", now.Spec.SignerName) {
		return forbidden(a, "user not permitted to attest for signerName %q", now.Spec.SignerName)
	}
	return nil
}
