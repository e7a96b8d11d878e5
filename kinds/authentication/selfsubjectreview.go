package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"sagong/object"
)

// SelfSubjectReview defines authentication.k8s.io/v1 SelfSubjectReview, which is answered and never stored.
func SelfSubjectReview() *object.Definition {
	return object.Kind[*authenticationv1.SelfSubjectReview]{
		Group: "authentication.k8s.io", Version: "v1", Kind: "SelfSubjectReview", Resource: "selfsubjectreviews",
		Virtual: true, Verbs: []string{"create"},
		New: func() *authenticationv1.SelfSubjectReview { return &authenticationv1.SelfSubjectReview{} },
	}.Definition()
}
