package compose

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"sagong/lib/pki"
)

// nodeConnector is how the API server reaches node agents: this machine's in
// the same process, others over TLS.
type nodeConnector struct {
	name   string // of this machine's node
	local  func() http.Handler
	client *pki.Renewing
	ca     *pki.Authority
}

// Handler implements apiserver.NodeConnector.
func (c *nodeConnector) Handler(node string) http.Handler {
	if node != c.name {
		return nil
	}
	return c.local()
}

// TLS implements apiserver.NodeConnector.
func (c *nodeConnector) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.ca.Pool(), GetClientCertificate: c.client.GetClientCertificate}
}

// Dial implements apiserver.NodeConnector.
func (c *nodeConnector) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	return d.DialContext(ctx, network, address)
}
