package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/resource"
)

// CertificateSubjectRestriction refuses requests for client certificates of the
// group that may do everything: such a certificate could never be revoked.
type CertificateSubjectRestriction struct{}

// Name implements Plugin.
func (CertificateSubjectRestriction) Name() string { return "CertificateSubjectRestriction" }

// Validate implements Validator.
func (CertificateSubjectRestriction) Validate(_ context.Context, a *resource.Attributes) error {
	if a.Operation != resource.Create || !on(a, certificatesv1.GroupName, "certificatesigningrequests") {
		return nil
	}
	spec := &a.Object.(*certificatesv1.CertificateSigningRequest).Spec
	if spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	block, _ := pem.Decode(spec.Request)
	if block == nil {
		return nil // the kind's validation says so
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil
	}
	if slices.Contains(req.Subject.Organization, user.SystemPrivilegedGroup) {
		return forbidden(a, "use of %s signer with %s group is not allowed", spec.SignerName, user.SystemPrivilegedGroup)
	}
	return nil
}
