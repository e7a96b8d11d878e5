package admission

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	if a.Definition.Group != certificatesv1.GroupName || a.Operation != resource.Update {
		return nil
	}
	if old, ok := a.Old.(*certificatesv1.PodCertificateRequest); ok && a.Subresource == "status" {
		return c.issue(ctx, a, old)
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

// issue asks of those who write a pod's certificate what it asks of those who sign.
// Upstream does this in the storage of the kind, as a part of its validation.
func (c CertificateApproval) issue(ctx context.Context, a *resource.Attributes, old *certificatesv1.PodCertificateRequest) error {
	now, ok := a.Object.(*certificatesv1.PodCertificateRequest)
	if !ok || now.Status.CertificateChain == old.Status.CertificateChain || c.may(ctx, a, "sign", old.Spec.SignerName) {
		return nil
	}
	text := fmt.Sprintf("User %q is not permitted to \"sign\" for signer %q", a.User.GetName(), old.Spec.SignerName)
	return apierrors.NewInvalid(a.Definition.GVK().GroupKind(), old.Name, field.ErrorList{field.Forbidden(field.NewPath("spec", "signerName"), text)})
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
