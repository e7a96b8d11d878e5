package compose

import (
	"encoding/json"
	"net/http"

	"sagong/apiserver/authn"
)

// issuerPaths let others check service-account tokens without asking the API:
// OpenID Connect discovery and the key set.
func issuerPaths(accounts *authn.ServiceAccounts, address string) map[string]http.Handler {
	const keys = "/openid/v1/jwks"
	answer := func(contentType string, v any) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	return map[string]http.Handler{
		"/.well-known/openid-configuration": answer("application/json", map[string]any{
			"issuer": accounts.Issuer(), "jwks_uri": address + keys,
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256"},
		}),
		keys: answer("application/jwk-set+json", accounts.Keys()),
	}
}
