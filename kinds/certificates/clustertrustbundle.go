package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
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
		NameRule: func(name string, prefix bool) []string {
			// Colons part the signer from the rest.
			return validation.NameIsDNSSubdomain(strings.ReplaceAll(name, ":", "."), prefix)
		},
		Validate:       validateBundle,
		ValidateUpdate: validateBundleUpdate,
	}.Definition()
}

// validateBundle checks that a bundle is what its name says: certificates of
// authorities, and under its signer's prefix when it has one.
func validateBundle(b *certificatesv1.ClusterTrustBundle) (errs field.ErrorList) {
	name := field.NewPath("metadata", "name")
	if b.Spec.SignerName == "" {
		if strings.Contains(b.Name, ":") {
			errs = append(errs, field.Invalid(name, b.Name, "ClusterTrustBundle without signer name must not have \":\" in its name"))
		}
	} else {
		prefix := strings.ReplaceAll(b.Spec.SignerName, "/", ":") + ":"
		if !strings.HasPrefix(b.Name, prefix) {
			errs = append(errs, field.Invalid(name, b.Name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", b.Spec.SignerName, prefix)))
		}
		errs = append(errs, signer.Validate(specPath.Child("signerName"), b.Spec.SignerName)...)
	}
	p := specPath.Child("trustBundle")
	rest, n := []byte(b.Spec.TrustBundle), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			errs = append(errs, field.Invalid(p, "<value omitted>", fmt.Sprintf("entry %d has bad block type: %v", n, block.Type)))
		} else if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			errs = append(errs, field.Invalid(p, "<value omitted>", fmt.Sprintf("entry %d does not parse as X.509", n)))
		}
		n++
	}
	if n == 0 {
		errs = append(errs, field.Invalid(p, "<value omitted>", "at least one trust anchor must be provided"))
	}
	return errs
}

func validateBundleUpdate(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
	return append(validateBundle(b), check.Immutable(specPath.Child("signerName"), b.Spec.SignerName, old.Spec.SignerName)...)
}
