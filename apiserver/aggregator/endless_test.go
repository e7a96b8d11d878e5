package aggregator

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// TestEndlessServer: whatever another server is asked for, its answer is not read
// without end.
func TestEndlessServer(t *testing.T) {
	for name, x := range map[string]struct {
		most int
		ask  func(ctx context.Context, r *route) bool // whether it was believed
	}{
		"resources": {maxDiscovery, func(ctx context.Context, r *route) bool {
			all, _ := ask(ctx, r)
			return len(all) > 0
		}},
		"OpenAPI v3": {maxDiscovery, func(ctx context.Context, r *route) bool {
			_, ok := listed(ctx, r, "apis/x.example.com/v1")
			return ok
		}},
		"OpenAPI v2": {maxDocument, func(ctx context.Context, r *route) bool {
			return part{}.fetch(ctx, r, "https://x/openapi/v2").doc != nil
		}},
		"contents": {maxContents, func(ctx context.Context, r *route) bool {
			return r.call(ctx, http.MethodGet, "/x", nil, &struct{}{}) == nil
		}},
	} {
		enough, heard := x.most+256<<20, make(chan int, 1) // more than the buffers of two sockets hold
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.WriteString(w, `{"paths":{"`)
			for block := strings.Repeat("a", 64<<10); n < enough; n += len(block) {
				if _, err := io.WriteString(w, block); err != nil {
					break
				}
			}
			heard <- n
		}))
		port := int32(443)
		transport := s.Client().Transport.(*http.Transport)
		transport.TLSClientConfig.InsecureSkipVerify = true
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		}
		r := &route{transport: transport, service: &apiregistrationv1.APIService{Spec: apiregistrationv1.APIServiceSpec{
			Group: "x.example.com", Version: "v1", Service: &apiregistrationv1.ServiceReference{Namespace: "x", Name: "x", Port: &port},
		}}}
		if x.ask(t.Context(), r) {
			t.Errorf("%s: believed", name)
		}
		s.Close()
		close(heard) // nobody was heard, if time was up before
		if n := <-heard; n >= enough {
			t.Errorf("%s: %d bytes were taken", name, n)
		}
	}
}
