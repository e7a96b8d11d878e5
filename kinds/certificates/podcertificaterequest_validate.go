package certificates

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/signer"
)

var conditionsPath = field.NewPath("status", "conditions")

const (
	maxStub  = 10 << 10  // bytes of stubPKCS10Request
	maxChain = 100 << 10 // bytes of certificateChain
	maxUID   = 128
)

func validatePodRequest(r *certificatesv1.PodCertificateRequest) (errs field.ErrorList) {
	s := &r.Spec
	errs = append(errs, signer.Validate(specPath.Child("signerName"), s.SignerName)...)
	errs = append(errs, signer.UserAnnotations(specPath.Child("unverifiedUserAnnotations"), s.UnverifiedUserAnnotations)...)
	uid := func(name, value string) {
		if value == "" {
			errs = append(errs, field.Invalid(specPath.Child(name), value, "must not be empty"))
		}
		if len(value) > maxUID {
			errs = append(errs, field.TooLong(specPath.Child(name), value, maxUID))
		}
	}
	errs = append(errs, check.Name(specPath.Child("podName"), s.PodName, validation.NameIsDNSSubdomain)...)
	uid("podUID", string(s.PodUID))
	errs = append(errs, check.Name(specPath.Child("serviceAccountName"), s.ServiceAccountName, validation.ValidateServiceAccountName)...)
	uid("serviceAccountUID", string(s.ServiceAccountUID))
	errs = append(errs, check.Name(specPath.Child("nodeName"), string(s.NodeName), validation.NameIsDNSSubdomain)...)
	uid("nodeUID", string(s.NodeUID))
	p := specPath.Child("maxExpirationSeconds")
	if s.MaxExpirationSeconds == nil {
		return append(errs, field.Required(p, "must be set"))
	}
	if n, most := *s.MaxExpirationSeconds, signer.MaxExpirationSeconds(s.SignerName); n < signer.MinExpirationSeconds || n > most {
		errs = append(errs, field.Invalid(p, n, fmt.Sprintf("must be in the range [%d, %d]", signer.MinExpirationSeconds, most)))
	}
	return append(errs, validateStub(s.StubPKCS10Request)...)
}

func validateStub(der []byte) field.ErrorList {
	p := specPath.Child("stubPKCS10Request")
	bad := func(value any, text string) field.ErrorList { return field.ErrorList{field.Invalid(p, value, text)} }
	switch {
	case len(der) == 0:
		return field.ErrorList{field.Required(p, "")}
	case len(der) > maxStub:
		return field.ErrorList{field.TooLong(p, "", maxStub)}
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return bad(der, "must be a valid PKCS#10 CSR")
	}
	switch key := req.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return bad("curve "+key.Curve.Params().Name, "elliptic public keys must use curve P256, P384, or P521")
		}
	case *rsa.PublicKey:
		if n := key.Size() * 8; n != 3072 && n != 4096 {
			return bad(fmt.Sprintf("%d-bit modulus", n), "RSA keys must have modulus size 3072 or 4096")
		}
	default:
		return bad(der, "unknown public key type; supported types are Ed25519, ECDSA, and RSA")
	}
	if req.CheckSignature() != nil {
		return bad(field.OmitValueType{}, "could not verify PKCS#10 CSR signature")
	}
	return nil
}

func validatePodRequestUpdate(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	return check.Immutable(specPath, r.Spec, old.Spec)
}

// preparePodRequestStatus keeps what was decided, and gives new conditions their
// time. Where a decision was added or taken away, validation says so.
func preparePodRequestStatus(_ context.Context, r, old *certificatesv1.PodCertificateRequest) {
	now := metav1.Now()
	of := func(r *certificatesv1.PodCertificateRequest, t string) (at []int) {
		for i, c := range r.Status.Conditions {
			if c.Type == t {
				at = append(at, i)
			}
		}
		return at
	}
	for _, t := range outcomes {
		was, is := of(old, t), of(r, t)
		if len(was) != len(is) {
			continue
		}
		for i := range is {
			r.Status.Conditions[is[i]] = old.Status.Conditions[was[i]]
		}
	}
	for i := range r.Status.Conditions {
		if c := &r.Status.Conditions[i]; c.LastTransitionTime.IsZero() {
			c.LastTransitionTime = now
		}
	}
}

// outcomes are the ways in which a request may end: one of them, for good.
var outcomes = []string{
	certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed,
}

func ended(r *certificatesv1.PodCertificateRequest, as ...string) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c metav1.Condition) bool {
		return c.Status == metav1.ConditionTrue && slices.Contains(as, c.Type)
	})
}

func validatePodRequestStatus(r, old *certificatesv1.PodCertificateRequest) (errs field.ErrorList) {
	known := 0
	for i, c := range r.Status.Conditions {
		// Upstream's path has a dot before the index.
		p := conditionsPath.Child(fmt.Sprintf("[%d]", i))
		if !slices.Contains(outcomes, c.Type) {
			errs = append(errs, field.NotSupported(p.Child("type"), c.Type, outcomes))
			continue
		}
		if known++; known > 1 {
			errs = append(errs, field.Invalid(p.Child("type"), c.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`))
		}
		if c.Status != metav1.ConditionTrue {
			errs = append(errs, field.NotSupported(p.Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
		}
	}
	if errs = append(errs, metav1validation.ValidateConditions(r.Status.Conditions, conditionsPath.Upstream())...); len(errs) > 0 {
		return errs
	}
	same := func(was certificatesv1.PodCertificateRequestStatus, text string) field.ErrorList {
		if equality.Semantic.DeepEqual(r.Status, was) {
			return nil
		}
		return field.ErrorList{field.Invalid(field.NewPath("status"), field.OmitValueType{}, text)}
	}
	switch {
	case ended(old, outcomes...):
		return same(old.Status, "immutable after PodCertificateRequest is issued, denied, or failed")
	case ended(r, certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed):
		return same(certificatesv1.PodCertificateRequestStatus{Conditions: r.Status.Conditions},
			"non-condition status fields must be empty when denying or failing the PodCertificateRequest")
	case ended(r, certificatesv1.PodCertificateRequestConditionTypeIssued):
		return validateIssued(r, old, time.Now())
	}
	return same(old.Status, `status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
}

// validateIssued checks what a signer issued against what was asked of it.
func validateIssued(r, old *certificatesv1.PodCertificateRequest, now time.Time) (errs field.ErrorList) {
	s, status := &r.Status, field.NewPath("status")
	chain := status.Child("certificateChain")
	bad := func(p *field.Path, value any, text string) field.ErrorList {
		return append(errs, field.Invalid(p, value, text))
	}
	if len(s.CertificateChain) > maxChain {
		return field.ErrorList{field.TooLong(chain, "", maxChain)}
	}
	block, rest := pem.Decode([]byte(s.CertificateChain))
	switch {
	case block == nil:
		return bad(chain, s.CertificateChain, "issued certificate chain must contain at least one certificate")
	case block.Type != "CERTIFICATE":
		return bad(chain, s.CertificateChain, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return bad(chain, s.CertificateChain, "leaf certificate does not parse as valid X.509")
	}
	for _, name := range leaf.DNSNames {
		if name == "" {
			errs = bad(chain, name, "leaf certificate should not contain empty DNSName")
		}
		if strings.Contains(name, "..") {
			errs = bad(chain, name, "leaf certificate's DNSName should not contain '..'")
		}
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
			errs = bad(chain, name, "leaf certificate's DNSName should not start or end with '.'")
		}
	}
	for _, address := range leaf.EmailAddresses {
		if _, err := mail.ParseAddress(address); err != nil {
			errs = bad(chain, address, "leaf certificate should not contain invalid EmailAddress")
		}
	}
	req, err := x509.ParseCertificateRequest(old.Spec.StubPKCS10Request)
	if err != nil {
		return bad(specPath.Child("stubPKCS10Request"), old.Spec.StubPKCS10Request, "must be a valid PKCS#10 CSR")
	}
	if key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(req.PublicKey) {
		return bad(chain, s.CertificateChain, "leaf certificate was not issued to the requested public key")
	}
	const consistent = "must be present and consistent with the issued certificate"
	if s.NotBefore == nil {
		errs = append(errs, field.Required(status.Child("notBefore"), consistent))
	}
	if s.NotAfter == nil {
		errs = append(errs, field.Required(status.Child("notAfter"), consistent))
	}
	if s.BeginRefreshAt == nil {
		errs = append(errs, field.Required(status.Child("beginRefreshAt"), "must be present and in the range [notbefore+10min, notafter-10min]"))
	}
	if len(errs) > 0 {
		return errs
	}
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	switch most := *r.Spec.MaxExpirationSeconds; {
	case !s.NotBefore.Time.Equal(leaf.NotBefore):
		return bad(status.Child("notBefore"), s.NotBefore.Time, "must be set to the NotBefore time encoded in the leaf certificate")
	case now.Sub(s.NotBefore.Time).Abs() >= 5*time.Minute:
		return bad(status.Child("notBefore"), s.NotBefore.Time, "must be set to within 5 minutes of kube-apiserver's current time")
	case !s.NotAfter.Time.Equal(leaf.NotAfter):
		return bad(status.Child("notAfter"), s.NotAfter.Time, "must be set to the NotAfter time encoded in the leaf certificate")
	case lifetime < time.Hour:
		return bad(chain, lifetime, "leaf certificate lifetime must be >= 1 hour")
	case lifetime > time.Duration(most)*time.Second:
		return bad(chain, lifetime, fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%v)", most))
	case s.BeginRefreshAt.Time.Before(s.NotBefore.Add(10 * time.Minute)):
		return bad(status.Child("beginRefreshAt"), s.BeginRefreshAt.Time, "must be at least 10 minutes after status.notBefore")
	case s.BeginRefreshAt.Time.After(s.NotAfter.Add(-10 * time.Minute)):
		return bad(status.Child("beginRefreshAt"), s.BeginRefreshAt.Time, "must be at least 10 minutes before status.notAfter")
	}
	for {
		if block, rest = pem.Decode(rest); block == nil {
			return nil
		}
		if block.Type != "CERTIFICATE" {
			return bad(chain, s.CertificateChain, "issued certificate chain must consist entirely of CERTFICATE PEM blocks")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return bad(chain, s.CertificateChain, "intermediate certificate does not parse as valid X.509")
		}
	}
}
