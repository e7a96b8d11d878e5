package authn

import (
	"encoding/json"
	"net/http"
	"slices"
)

// Where others find what they need to check service-account tokens without
// asking the API.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/openid/v1/jwks"
)

// Discovery serves the issuer's description, which says that its keys are at
// keysURI: https://openid.net/specs/openid-connect-discovery-1_0.html
func (s *ServiceAccounts) Discovery(keysURI string) http.Handler {
	return document("application/json", func() any {
		var algorithms []string
		for _, k := range s.Keys.Public().Keys {
			if !slices.Contains(algorithms, k.Algorithm) {
				algorithms = append(algorithms, k.Algorithm)
			}
		}
		slices.Sort(algorithms)
		return map[string]any{
			"issuer": s.Issuers[0], "jwks_uri": keysURI,
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": algorithms,
		}
	})
}

// PublicKeys serves the keys that tokens may be signed by, as RFC 7517 has it.
func (s *ServiceAccounts) PublicKeys() http.Handler {
	return document("application/jwk-set+json", func() any { return s.Keys.Public() })
}

func document(contentType string, v func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_ = json.NewEncoder(w).Encode(v())
	})
}
