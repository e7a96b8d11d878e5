package authn

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"
)

const tokenProtocol = "base64url.bearer.authorization.k8s.io."

// webSocketToken reads a token offered as a WebSocket subprotocol, and takes it
// out of the header: it is a credential, not a protocol to choose or log.
func webSocketToken(r *http.Request) string {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return ""
	}
	var token string
	var kept []string
	for _, header := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(header, ",") {
			p = strings.TrimSpace(p)
			encoded, is := strings.CutPrefix(p, tokenProtocol)
			if !is {
				kept = append(kept, p)
				continue
			}
			raw, err := base64.RawURLEncoding.DecodeString(encoded)
			if err == nil && utf8.Valid(raw) {
				token = string(raw)
			}
		}
	}
	// A token without another protocol cannot be answered by a valid handshake.
	if token == "" || len(kept) == 0 {
		return ""
	}
	r.Header["Sec-Websocket-Protocol"] = []string{strings.Join(kept, ",")}
	r.Header.Set("Authorization", "Bearer "+token)
	return token
}
