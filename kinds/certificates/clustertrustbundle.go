package certificates

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

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
	}.Definition()
}
