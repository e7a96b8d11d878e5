package admission

import (
	"bytes"
	"context"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/resource"
)

// CertificateApproval asks more of those who approve or sign a certificate than
// that they may write there: the verb approve or sign on the signer. Upstream
// has a rule for each, CertificateApproval and CertificateSigning.
type CertificateApproval struct {
	Authorizer authorizer.UnconditionalAuthorizer
}

// Name implements Plugin.
func (CertificateApproval) Name() string { return "CertificateApproval" }

// Validate implements Validator.
func (c CertificateApproval) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Definition.Group != certificatesv1.GroupName || a.Definition.Resource != "certificatesigningrequests" || a.Operation != resource.Update {
		return nil
	}
	old, ok := a.Old.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return nil
	}
	switch a.Subresource {
	case "approval":
		if !c.may(ctx, a, "approve", old.Spec.SignerName) {
			return forbidden(a, "user not permitted to approve requests with signerName %q", old.Spec.SignerName)
		}
	case "status":
		now := a.Object.(*certificatesv1.CertificateSigningRequest)
		if bytes.Equal(old.Status.Certificate, now.Status.Certificate) && equality.Semantic.DeepEqual(old.Status.Conditions, now.Status.Conditions) {
			return nil
		}
		if !c.may(ctx, a, "sign", old.Spec.SignerName) {
			return forbidden(a, "user not permitted to sign requests with signerName %q", old.Spec.SignerName)
		}
	}
	return nil
}

// may asks about the signer by its name, then about all of its domain.
func (c CertificateApproval) may(ctx context.Context, a *resource.Attributes, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		decision, _, _ := c.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
			User: a.User, Verb: verb, APIGroup: certificatesv1.GroupName, APIVersion: "*", Resource: "signers", Name: name, ResourceRequest: true,
		})
		if decision == authorizer.DecisionAllow {
			return true
		}
	}
	return false
}
