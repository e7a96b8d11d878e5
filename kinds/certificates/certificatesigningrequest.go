package certificates

import (
	"context"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"sagong/object"
)

// CertificateSigningRequest defines certificates.k8s.io/v1
// CertificateSigningRequest.
func CertificateSigningRequest() *object.Definition {
	spec, status := certificatesv1.CertificateSigningRequestSpec{}.SwaggerDoc(), certificatesv1.CertificateSigningRequestStatus{}.SwaggerDoc()
	return object.Kind[*certificatesv1.CertificateSigningRequest]{
		Group: "certificates.k8s.io", Version: "v1", Kind: "CertificateSigningRequest",
		Resource: "certificatesigningrequests", ShortNames: []string{"csr"}, Status: true,
		New:     func() *certificatesv1.CertificateSigningRequest { return &certificatesv1.CertificateSigningRequest{} },
		NewList: func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
		Subresources: []object.Subresource{
			{Name: "approval", Group: "certificates.k8s.io", Version: "v1", Kind: "CertificateSigningRequest", Verbs: []string{"get", "patch", "update"}},
		},
		Fields: func(r *certificatesv1.CertificateSigningRequest) fields.Set {
			return fields.Set{"spec.signerName": r.Spec.SignerName}
		},
		FieldNames: []string{"spec.signerName"},
		Columns: []object.TypedColumn[*certificatesv1.CertificateSigningRequest]{
			object.NameColumn[*certificatesv1.CertificateSigningRequest](),
			object.AgeColumn[*certificatesv1.CertificateSigningRequest](),
			object.StringColumn("SignerName", spec["signerName"], func(r *certificatesv1.CertificateSigningRequest) string {
				if r.Spec.SignerName == "" {
					return "<none>"
				}
				return r.Spec.SignerName
			}),
			object.StringColumn("Requestor", spec["username"], func(r *certificatesv1.CertificateSigningRequest) string { return r.Spec.Username }),
			object.StringColumn("RequestedDuration", spec["expirationSeconds"], func(r *certificatesv1.CertificateSigningRequest) string {
				if r.Spec.ExpirationSeconds == nil {
					return "<none>"
				}
				return duration.HumanDuration(time.Duration(*r.Spec.ExpirationSeconds) * time.Second)
			}),
			object.StringColumn("Condition", status["conditions"], requestCondition),
		},
		// A request cannot come with its own approval.
		PrepareCreate: func(_ context.Context, r *certificatesv1.CertificateSigningRequest) {
			r.Status = certificatesv1.CertificateSigningRequestStatus{}
		},
		// Everything but metadata is fixed when the request is made.
		PrepareUpdate: func(_ context.Context, r, old *certificatesv1.CertificateSigningRequest) {
			r.Spec = *old.Spec.DeepCopy()
		},
		NameRule:             path.ValidatePathSegmentName,
		Validate:             validateRequest,
		ValidateUpdate:       validateRequestUpdate,
		ValidateStatusUpdate: validateRequestStatus,
	}.Definition()
}

func requestCondition(r *certificatesv1.CertificateSigningRequest) string {
	var approved, denied, failed bool
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied:
			denied = true
		case certificatesv1.CertificateFailed:
			failed = true
		}
	}
	s := "Pending"
	switch {
	case denied:
		s = "Denied"
	case approved:
		s = "Approved"
	}
	if failed {
		s += ",Failed"
	}
	if len(r.Status.Certificate) > 0 {
		s += ",Issued"
	}
	return s
}
