package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"sagong/apiserver/turn"
)

// maxAgentAnswer bounds what is read of an agent's answer: the statistics of a
// node with 100,000 containers take 40 MB.
const maxAgentAnswer = 256 << 20

// ReadAgent gets a path of a node's agent, over the connection that logs and
// exec use too.
func (s *Server) ReadAgent(ctx context.Context, n *corev1.Node, path string) ([]byte, error) {
	if s.Nodes == nil {
		return nil, errors.New("this server cannot reach node agents")
	}
	turn.Yield(ctx)
	u := &url.URL{Scheme: "https", Host: n.Name, Path: path}
	if h := s.Nodes.Handler(n.Name); h != nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		w := &memoryResponse{header: http.Header{}, status: http.StatusOK}
		h.ServeHTTP(w, r)
		return w.body.Bytes(), agentStatus(w.status)
	}
	address, err := nodeAddress(n)
	if err != nil {
		return nil, err
	}
	u.Host = net.JoinHostPort(address, strconv.Itoa(int(agentPort(n))))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.agentTransport().RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := agentStatus(resp.StatusCode); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxAgentAnswer))
}

func agentStatus(code int) error {
	if code == http.StatusOK {
		return nil
	}
	return fmt.Errorf("the agent answered %d", code)
}

// memoryResponse keeps what a handler in this process writes.
type memoryResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *memoryResponse) Header() http.Header         { return w.header }
func (w *memoryResponse) WriteHeader(code int)        { w.status = code }
func (w *memoryResponse) Write(b []byte) (int, error) { return w.body.Write(b) }
