package compose

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
)

// TokenKeysPath is where administrators rotate the key of service-account tokens.
const TokenKeysPath = "/sagong/v1/token-keys"

// serveIssuer lets others check service-account tokens without asking the API,
// by OpenID Connect discovery and the key set, and administrators rotate the key.
func (s *server) serveIssuer() {
	const path = "/openid/v1/jwks"
	uri := s.cfg.ServiceAccountJWKSURI
	if uri == "" {
		uri = "https://" + AdvertisedAPI(s.cfg) + path
	}
	answer := func(contentType string, v func() any) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_ = json.NewEncoder(w).Encode(v())
		})
	}
	keys := s.accounts.Keys
	s.api.HandleService("/.well-known/openid-configuration", answer("application/json", func() any {
		var algorithms []string
		for _, k := range keys.Public().Keys {
			if !slices.Contains(algorithms, k.Algorithm) {
				algorithms = append(algorithms, k.Algorithm)
			}
		}
		slices.Sort(algorithms)
		return map[string]any{
			"issuer": s.accounts.Issuers[0], "jwks_uri": uri,
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": algorithms,
		}
	}))
	s.api.HandleService(path, answer("application/jwk-set+json", func() any { return keys.Public() }))
	var one sync.Mutex
	s.api.Handle(TokenKeysPath, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
			return
		}
		var ask RotateKey
		if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&ask); err != nil {
			http.Error(w, "cannot read the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		one.Lock()
		defer one.Unlock()
		if err := s.rotateTokenKey(ask.DropOld); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		ask.Keys = len(keys.Public().Keys)
		s.log.Info("service-account tokens are signed with a new key", "keys", ask.Keys)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(ask)
	}))
}
