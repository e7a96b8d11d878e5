package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/signer"
	"sagong/object"
)

// ClusterTrustBundle defines certificates.k8s.io/v1 ClusterTrustBundle.
func ClusterTrustBundle() *object.Definition {
	return object.Kind[*certificatesv1.ClusterTrustBundle]{
		Group: "certificates.k8s.io", Version: "v1", Kind: "ClusterTrustBundle",
		Resource: "clustertrustbundles", RefuseUnconditionalUpdate: true,
		New:     func() *certificatesv1.ClusterTrustBundle { return &certificatesv1.ClusterTrustBundle{} },
		NewList: func() runtime.Object { return &certificatesv1.ClusterTrustBundleList{} },
		Fields: func(b *certificatesv1.ClusterTrustBundle) fields.Set {
			return fields.Set{"spec.signerName": b.Spec.SignerName}
		},
		FieldNames: []string{"spec.signerName"},
		Columns: []object.TypedColumn[*certificatesv1.ClusterTrustBundle]{
			object.NameColumn[*certificatesv1.ClusterTrustBundle](),
			object.StringColumn("SignerName", certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"], func(b *certificatesv1.ClusterTrustBundle) string {
				if b.Spec.SignerName == "" {
					return "<none>"
				}
				return b.Spec.SignerName
			}),
		},
		NameRule:       func(string, bool) []string { return nil }, // it depends on the signer: Validate has it
		Validate:       validateBundle,
		ValidateUpdate: validateBundleUpdate,
	}.Definition()
}

// validateBundle checks that a bundle is what its name says: certificates of
// authorities, and under its signer's prefix when it has one.
func validateBundle(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
	return append(validateBundleNames(b), validateAnchors(specPath.Child("trustBundle"), b.Spec.TrustBundle)...)
}

func validateBundleNames(b *certificatesv1.ClusterTrustBundle) (errs field.ErrorList) {
	if b.Name != "" {
		for _, msg := range signer.BundleName(b.Name, b.Spec.SignerName, false) {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), b.Name, msg))
		}
	}
	if b.Spec.SignerName != "" {
		errs = append(errs, signer.Validate(specPath.Child("signerName"), b.Spec.SignerName)...)
	}
	return errs
}

// validateAnchors wants certificates of authorities, each once.
func validateAnchors(p *field.Path, text string) (errs field.ErrorList) {
	const most = 1 << 20
	if len(text) > most {
		return field.ErrorList{field.TooLong(p, "", most)}
	}
	bad := func(format string, args ...any) {
		errs = append(errs, field.Invalid(p, "<value omitted>", fmt.Sprintf(format, args...)))
	}
	at := map[string][]int{}
	var order []string
	rest := []byte(text)
	for i := 0; ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			bad("entry %d has bad block type: %v", i, block.Type)
			continue
		}
		if len(block.Headers) != 0 {
			bad("entry %d has PEM block headers", i)
			continue
		}
		switch c, err := x509.ParseCertificate(block.Bytes); {
		case err != nil:
			bad("entry %d does not parse as X.509", i)
		case !c.IsCA:
			bad("entry %d does not have the CA bit set", i)
		case !c.BasicConstraintsValid:
			bad("entry %d has invalid basic constraints", i)
		default:
			key := string(block.Bytes)
			if at[key] == nil {
				order = append(order, key)
			}
			at[key] = append(at[key], i)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if len(order) == 0 {
		bad("at least one trust anchor must be provided")
	}
	for _, key := range order {
		if len(at[key]) > 1 {
			bad("duplicate trust anchor (indices %v)", at[key])
		}
	}
	return errs
}

// validateBundleUpdate does not read again what has not changed: those who read
// certificates become stricter.
func validateBundleUpdate(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
	errs := validateBundleNames(b)
	if b.Spec.TrustBundle != old.Spec.TrustBundle {
		errs = append(errs, validateAnchors(specPath.Child("trustBundle"), b.Spec.TrustBundle)...)
	}
	return append(errs, check.Immutable(specPath.Child("signerName"), b.Spec.SignerName, old.Spec.SignerName)...)
}
