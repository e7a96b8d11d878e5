package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"

	"sagong/object"
)

// SubjectAccessReview defines authorization.k8s.io/v1 SubjectAccessReview, which is answered and never stored.
func SubjectAccessReview() *object.Definition {
	return object.Kind[*authorizationv1.SubjectAccessReview]{
		Group: "authorization.k8s.io", Version: "v1", Kind: "SubjectAccessReview", Resource: "subjectaccessreviews",
		Virtual: true, Verbs: []string{"create"},
		New:      func() *authorizationv1.SubjectAccessReview { return &authorizationv1.SubjectAccessReview{} },
		Validate: validateSubjectAccessReview,
	}.Definition()
}
