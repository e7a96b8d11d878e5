package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"

	"sagong/object"
)

// LocalSubjectAccessReview defines authorization.k8s.io/v1 LocalSubjectAccessReview, which is answered and never stored.
func LocalSubjectAccessReview() *object.Definition {
	return object.Kind[*authorizationv1.LocalSubjectAccessReview]{
		Group: "authorization.k8s.io", Version: "v1", Kind: "LocalSubjectAccessReview", Resource: "localsubjectaccessreviews",
		Virtual: true, Verbs: []string{"create"}, Namespaced: true,
		New:      func() *authorizationv1.LocalSubjectAccessReview { return &authorizationv1.LocalSubjectAccessReview{} },
		Validate: validateLocalSubjectAccessReview,
	}.Definition()
}
