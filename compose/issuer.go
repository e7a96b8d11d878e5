package compose

import (
	"context"
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
	s.serveRotation(TokenKeysPath, "service-account tokens are signed with a new key", func(_ context.Context, dropOld bool) (int, error) {
		one.Lock()
		defer one.Unlock()
		err := s.rotateTokenKey(dropOld)
		return len(s.accounts.Keys.Public().Keys), err
	})
}
