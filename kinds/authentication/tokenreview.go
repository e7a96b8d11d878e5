package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"

	"sagong/object"
)

// TokenReview defines authentication.k8s.io/v1 TokenReview, which is answered and never stored.
func TokenReview() *object.Definition {
	return object.Kind[*authenticationv1.TokenReview]{
		Group: "authentication.k8s.io", Version: "v1", Kind: "TokenReview", Resource: "tokenreviews",
		Virtual: true, Verbs: []string{"create"},
		New: func() *authenticationv1.TokenReview { return &authenticationv1.TokenReview{} },
	}.Definition()
}
