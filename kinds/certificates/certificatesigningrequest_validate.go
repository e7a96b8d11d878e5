package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
	"sagong/kinds/signer"
)

var specPath = field.NewPath("spec")

var usages = []certificatesv1.KeyUsage{
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment,
	certificatesv1.UsageKeyEncipherment, certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly,
	certificatesv1.UsageAny, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
}

func validateRequest(r *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	if err := parseRequest(r.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(specPath.Child("request"), r.Spec.Request, fmt.Sprintf("%v", err)))
	}
	p := specPath.Child("usages")
	if len(r.Spec.Usages) == 0 {
		errs = append(errs, field.Required(p, "usages must be provided"))
	}
	for i, u := range r.Spec.Usages {
		errs = append(errs, check.OneOf(p.Index(i), u, usages...)...)
		if slices.Contains(r.Spec.Usages[:i], u) {
			errs = append(errs, field.Duplicate(p.Index(i), u))
		}
	}
	errs = append(errs, signer.Validate(specPath.Child("signerName"), r.Spec.SignerName)...)
	if n := r.Spec.ExpirationSeconds; n != nil && *n < 600 {
		errs = append(errs, field.Invalid(specPath.Child("expirationSeconds"), *n, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return append(errs, validateConditions(r)...)
}

func parseRequest(raw []byte) error {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	_, err := x509.ParseCertificateRequest(block.Bytes)
	return err
}

func validateConditions(r *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	path := field.NewPath("status", "conditions")
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range r.Status.Conditions {
		p := path.Index(i)
		errs = append(errs, check.Required(p.Child("type"), string(c.Type), "")...)
		switch c.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			if c.Status != v1.ConditionTrue {
				errs = append(errs, field.NotSupported(p.Child("status"), c.Status, []v1.ConditionStatus{v1.ConditionTrue}))
			}
		default:
			errs = append(errs, check.RequiredOneOf(p.Child("status"), c.Status, v1.ConditionTrue, v1.ConditionFalse, v1.ConditionUnknown)...)
		}
		if seen[c.Type] {
			errs = append(errs, field.Duplicate(p.Child("type"), c.Type))
		}
		seen[c.Type] = true
		if c.Type == certificatesv1.CertificateApproved && seen[certificatesv1.CertificateDenied] ||
			c.Type == certificatesv1.CertificateDenied && seen[certificatesv1.CertificateApproved] {
			errs = append(errs, field.Invalid(p.Child("type"), c.Type, "Approved and Denied conditions are mutually exclusive"))
		}
	}
	return errs
}

func validateRequestUpdate(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return append(validateRequest(r), keepConditions(r, old)...)
}

// keepConditions refuses that a decision is taken back.
func keepConditions(r, old *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	path := field.NewPath("status", "conditions")
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		var was, is []certificatesv1.CertificateSigningRequestCondition
		for _, c := range old.Status.Conditions {
			if c.Type == t {
				was = append(was, c)
			}
		}
		for _, c := range r.Status.Conditions {
			if c.Type == t {
				is = append(is, c)
			}
		}
		switch {
		case len(was) > len(is):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		case len(was) > 0 && len(was) < len(is):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", t)))
		}
	}
	return errs
}

// ValidateApproval checks a write to certificatesigningrequests/approval.
func ValidateApproval(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateRequestUpdate(r, old)
}

func validateRequestStatus(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	errs := validateRequestUpdate(r, old)
	p := field.NewPath("status", "certificate")
	if len(old.Status.Certificate) > 0 && !slices.Equal(old.Status.Certificate, r.Status.Certificate) {
		return append(errs, field.Forbidden(p, "updates may not clear or modify existing certificate"))
	}
	if len(r.Status.Certificate) == 0 || len(old.Status.Certificate) > 0 {
		return errs
	}
	rest, found := r.Status.Certificate, false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		found = true
		if block.Type != "CERTIFICATE" {
			return append(errs, field.Invalid(p, "<certificate data>", "only CERTIFICATE PEM blocks are allowed, found "+fmt.Sprintf("%q", block.Type)))
		}
		if len(block.Headers) != 0 {
			return append(errs, field.Invalid(p, "<certificate data>", "no PEM block headers are permitted"))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return append(errs, field.Invalid(p, "<certificate data>", err.Error()))
		}
	}
	if !found {
		errs = append(errs, field.Invalid(p, "<certificate data>", "must contain at least one CERTIFICATE PEM block"))
	}
	return errs
}
