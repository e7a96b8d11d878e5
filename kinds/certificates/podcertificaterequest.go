package certificates

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
	"sagong/object"
)

// PodCertificateRequest defines certificates.k8s.io/v1 PodCertificateRequest.
func PodCertificateRequest() *object.Definition {
	spec := certificatesv1.PodCertificateRequestSpec{}.SwaggerDoc()
	return object.Kind[*certificatesv1.PodCertificateRequest]{
		Group: "certificates.k8s.io", Version: "v1", Kind: "PodCertificateRequest",
		Resource: "podcertificaterequests", Namespaced: true, Status: true, StatusKeepsMetadata: true, RefuseUnconditionalUpdate: true,
		New:     func() *certificatesv1.PodCertificateRequest { return &certificatesv1.PodCertificateRequest{} },
		NewList: func() runtime.Object { return &certificatesv1.PodCertificateRequestList{} },
		Fields: func(r *certificatesv1.PodCertificateRequest) fields.Set {
			return fields.Set{"spec.signerName": r.Spec.SignerName, "spec.podName": r.Spec.PodName, "spec.nodeName": string(r.Spec.NodeName)}
		},
		FieldLabels: object.FieldLabels{FieldNames: []string{"spec.signerName", "spec.podName", "spec.nodeName"}, NoNamespaceField: true},
		Columns: []object.TypedColumn[*certificatesv1.PodCertificateRequest]{
			object.NameColumn[*certificatesv1.PodCertificateRequest](),
			object.StringColumn("PodName", spec["podName"], func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.PodName }),
			object.StringColumn("ServiceAccountName", spec["serviceAccountName"], func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.ServiceAccountName }),
			object.StringColumn("NodeName", spec["nodeName"], func(r *certificatesv1.PodCertificateRequest) string { return string(r.Spec.NodeName) }),
			object.StringColumn("SignerName", spec["signerName"], func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.SignerName }),
			object.StringColumn("State", "Is the request Pending, Issued, Denied, or Failed?", func(r *certificatesv1.PodCertificateRequest) string {
				for _, c := range r.Status.Conditions {
					switch c.Type {
					case "Issued", "Denied", "Failed":
						return c.Type
					}
				}
				return "Pending"
			}),
			object.StringColumn("UnverifiedUserAnnotations", spec["unverifiedUserAnnotations"], func(r *certificatesv1.PodCertificateRequest) string {
				return labels.FormatLabels(r.Spec.UnverifiedUserAnnotations)
			}),
		},
		Default: func(r *certificatesv1.PodCertificateRequest) { fill.Ptr(&r.Spec.MaxExpirationSeconds, 86400) },
		PrepareCreate: func(_ context.Context, r *certificatesv1.PodCertificateRequest) {
			r.Status = certificatesv1.PodCertificateRequestStatus{}
		},
		Validate:             validatePodRequest,
		ValidateUpdate:       validatePodRequestUpdate,
		PrepareStatusUpdate:  preparePodRequestStatus,
		ValidateStatusUpdate: validatePodRequestStatus,
	}.Definition()
}
