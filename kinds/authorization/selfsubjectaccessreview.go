package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"

	"sagong/object"
)

// SelfSubjectAccessReview defines authorization.k8s.io/v1 SelfSubjectAccessReview, which is answered and never stored.
func SelfSubjectAccessReview() *object.Definition {
	return object.Kind[*authorizationv1.SelfSubjectAccessReview]{
		Group: "authorization.k8s.io", Version: "v1", Kind: "SelfSubjectAccessReview", Resource: "selfsubjectaccessreviews",
		Virtual: true, Verbs: []string{"create"},
		New:      func() *authorizationv1.SelfSubjectAccessReview { return &authorizationv1.SelfSubjectAccessReview{} },
		Validate: validateSelfSubjectAccessReview,
	}.Definition()
}
