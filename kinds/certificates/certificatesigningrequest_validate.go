package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"

	"sagong/kinds/check"
	"sagong/kinds/field"
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

func validateRequest(r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateRequestOf(r, &certificatesv1.CertificateSigningRequest{})
}

// validateRequestOf checks a request; what old has already that is no longer let
// pass, stays.
func validateRequestOf(r, old *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	if err := parseRequest(r.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(specPath.Child("request"), r.Spec.Request, fmt.Sprintf("%v", err)))
	}
	p := specPath.Child("usages")
	if len(r.Spec.Usages) == 0 {
		errs = append(errs, field.Required(p, ""))
	}
	if !slices.ContainsFunc(old.Spec.Usages, func(u certificatesv1.KeyUsage) bool { return !slices.Contains(usages, u) }) {
		for i, u := range r.Spec.Usages {
			errs = append(errs, check.OneOf(p.Index(i), u, usages...)...)
		}
	}
	if !twice(old.Spec.Usages) {
		for i, u := range r.Spec.Usages {
			if slices.Contains(r.Spec.Usages[:i], u) {
				errs = append(errs, field.Duplicate(p.Index(i), u))
			}
		}
	}
	const legacy = "kubernetes.io/legacy-unknown"
	if r.Spec.SignerName == legacy && old.Spec.SignerName != legacy {
		errs = append(errs, field.Invalid(specPath.Child("signerName"), legacy, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, signer.Validate(specPath.Child("signerName"), r.Spec.SignerName)...)
	}
	if n := r.Spec.ExpirationSeconds; n != nil && *n < 600 {
		errs = append(errs, field.Invalid(specPath.Child("expirationSeconds"), *n, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	errs = append(errs, validateConditions(r, old)...)
	if now, was := r.Status.Certificate, old.Status.Certificate; !bytes.Equal(now, was) && parseCertificates(was) == nil {
		if err := parseCertificates(now); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("status", "certificate"), "<certificate data>", err.Error()))
		}
	}
	return errs
}

func twice(all []certificatesv1.KeyUsage) bool {
	seen := map[certificatesv1.KeyUsage]bool{}
	for _, u := range all {
		if seen[u] {
			return true
		}
		seen[u] = true
	}
	return false
}

// parseCertificates reports what is not certificates, when it is anything.
func parseCertificates(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	n := 0
	for ; ; n++ {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		switch {
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		case len(block.Headers) != 0:
			return errors.New("no PEM block headers are permitted")
		}
		all, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
	}
	if n == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

func parseRequest(raw []byte) error {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return r.CheckSignature()
}

func conditions(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) (all []certificatesv1.CertificateSigningRequestCondition) {
	for _, c := range r.Status.Conditions {
		if c.Type == t {
			all = append(all, c)
		}
	}
	return all
}

func validateConditions(r, old *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	path := field.NewPath("status", "conditions")
	had := map[certificatesv1.RequestConditionType]int{}
	for _, c := range old.Status.Conditions {
		had[c.Type]++
	}
	anyCount := slices.ContainsFunc(old.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return had[c.Type] > 1 })
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range r.Status.Conditions {
		p := path.Index(i)
		if c.Type == "" && had[""] == 0 {
			errs = append(errs, field.Required(p.Child("type"), ""))
		}
		switch c.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			errs = append(errs, check.RequiredOneOf(p.Child("status"), c.Status, v1.ConditionTrue)...)
		default:
			errs = append(errs, check.RequiredOneOf(p.Child("status"), c.Status, v1.ConditionTrue, v1.ConditionFalse, v1.ConditionUnknown)...)
		}
		if seen[c.Type] && !anyCount {
			errs = append(errs, field.Duplicate(p.Child("type"), c.Type))
		}
		seen[c.Type] = true
	}
	return errs
}

func validateRequestUpdate(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateRequestChange(r, old, false, false)
}

// ValidateApproval checks a write to certificatesigningrequests/approval.
func ValidateApproval(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateRequestChange(r, old, true, false)
}

func validateRequestStatus(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validateRequestChange(r, old, false, true)
}

// validateRequestChange refuses that a decision is taken back, and that one is made
// or a certificate is issued but in the place for it.
func validateRequestChange(r, old *certificatesv1.CertificateSigningRequest, approval, issue bool) field.ErrorList {
	errs := validateRequestOf(r, old)
	path := field.NewPath("status", "conditions")
	types := []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed}
	for _, t := range types {
		if len(conditions(r, t)) < len(conditions(old, t)) {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	for _, t := range types[:2] {
		now, was := conditions(r, t), conditions(old, t)
		switch {
		case approval || len(now) < len(was):
		case len(now) > len(was):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", t)))
		case !equality.Semantic.DeepEqual(was, now):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("updates may not modify a condition of type %q\n%v", t, diff.Diff(was, now))))
		}
	}
	if !bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		p := field.NewPath("status", "certificate")
		switch {
		case !issue:
			errs = append(errs, field.Forbidden(p, "updates may not set certificate content"))
		case len(old.Status.Certificate) > 0:
			errs = append(errs, field.Forbidden(p, "updates may not modify existing certificate content"))
		}
	}
	return append(errs, validateDecision(r, old)...)
}

// validateDecision refuses a request both approved and denied, unless it is already,
// in the words of the rule that upstream declares beside the type.
func validateDecision(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	both := func(r *certificatesv1.CertificateSigningRequest) bool {
		return len(conditions(r, certificatesv1.CertificateApproved)) > 0 && len(conditions(r, certificatesv1.CertificateDenied)) > 0
	}
	if !both(r) || both(old) {
		return nil
	}
	const approved, denied = `conditions[{"type": "Approved"}]`, `conditions[{"type": "Denied"}]`
	return field.ErrorList{field.Invalid(field.NewPath("status", "conditions"), "{"+approved+", "+denied+"}",
		"must specify at most one of: `"+approved+"`, `"+denied+"`")}
}
