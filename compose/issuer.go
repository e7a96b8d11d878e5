package compose

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"sagong/apiserver/authn"
)

// TokenKeysPath is where administrators rotate the key of service-account tokens.
const TokenKeysPath = "/sagong/v1/token-keys"

// serveIssuer lets others check service-account tokens without asking the API,
// by OpenID Connect discovery and the key set, and administrators rotate the key.
func (s *server) serveIssuer() {
	uri := s.cfg.ServiceAccountJWKSURI
	if uri == "" {
		uri = "https://" + AdvertisedAPI(s.cfg) + authn.KeysPath
	}
	s.api.HandleService(authn.DiscoveryPath, s.accounts.Discovery(uri))
	s.api.HandleService(authn.KeysPath, s.accounts.PublicKeys())
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
		ask.Keys = len(s.accounts.Keys.Public().Keys)
		s.log.Info("service-account tokens are signed with a new key", "keys", ask.Keys)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(ask)
	}))
}
