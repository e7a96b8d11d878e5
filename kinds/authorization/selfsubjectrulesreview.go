package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"

	"sagong/object"
)

// SelfSubjectRulesReview defines authorization.k8s.io/v1 SelfSubjectRulesReview, which is answered and never stored.
func SelfSubjectRulesReview() *object.Definition {
	return object.Kind[*authorizationv1.SelfSubjectRulesReview]{
		Group: "authorization.k8s.io", Version: "v1", Kind: "SelfSubjectRulesReview", Resource: "selfsubjectrulesreviews",
		Virtual: true, Verbs: []string{"create"},
		New: func() *authorizationv1.SelfSubjectRulesReview { return &authorizationv1.SelfSubjectRulesReview{} },
	}.Definition()
}
