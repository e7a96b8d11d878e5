package certificates

import (
	"context"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		Resets:  map[string][]string{"": {"spec"}, "status": {"status.conditions"}, "approval": {"spec", "status.certificate"}},
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
			object.StringColumn("Requestor", spec["request"], func(r *certificatesv1.CertificateSigningRequest) string { return r.Spec.Username }),
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
		PrepareStatusUpdate:  prepareRequestStatus,
		NameRule:             path.ValidatePathSegmentName,
		Validate:             validateRequest,
		ValidateUpdate:       validateRequestUpdate,
		ValidateStatusUpdate: validateRequestStatus,
	}.Definition()
}

// prepareRequestStatus keeps what was decided: it is written through approval.
func prepareRequestStatus(_ context.Context, r, old *certificatesv1.CertificateSigningRequest) {
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		was := conditions(old, t)
		if len(conditions(r, t)) != len(was) {
			continue // refused
		}
		for i := range r.Status.Conditions {
			if r.Status.Conditions[i].Type == t {
				r.Status.Conditions[i], was = was[0], was[1:]
			}
		}
	}
	StampConditions(r, old)
}

// StampConditions gives new and changed conditions their times.
func StampConditions(r, old *certificatesv1.CertificateSigningRequest) {
	at := metav1.Now()
	for i := range r.Status.Conditions {
		c := &r.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = at
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = at
		for _, b := range old.Status.Conditions {
			if b.Type == c.Type && b.Status == c.Status && !b.LastTransitionTime.IsZero() {
				c.LastTransitionTime = b.LastTransitionTime
				break
			}
		}
	}
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
