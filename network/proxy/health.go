package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// health answers load balancers, on a port of its own for each Service with
// externalTrafficPolicy Local, whether this node has endpoints for it. The
// proxy's work lock guards it.
type health struct {
	// ports that plans want, by owner.
	wanted  map[string]*healthPort
	servers map[uint16]*healthServer
}

type healthPort struct {
	port  uint16
	ready int
}

type healthServer struct {
	owner  string
	http   *http.Server
	ready  atomic.Int64
	closed chan struct{}
}

func (h *health) set(owner string, port uint16, ready int) {
	if port == 0 {
		delete(h.wanted, owner)
		return
	}
	if h.wanted == nil {
		h.wanted, h.servers = map[string]*healthPort{}, map[uint16]*healthServer{}
	}
	h.wanted[owner] = &healthPort{port, ready}
}

// serve opens and closes ports as wanted. A port that cannot be opened does not
// hinder the others.
func (h *health) serve() error {
	ports := make(map[uint16]string, len(h.wanted))
	for owner, w := range h.wanted {
		if first, ok := ports[w.port]; !ok || owner < first {
			ports[w.port] = owner
		}
	}
	var errs []error
	for port, s := range h.servers {
		if ports[port] != s.owner {
			errs = append(errs, s.close())
			delete(h.servers, port)
		}
	}
	for port, owner := range ports {
		s := h.servers[port]
		if s == nil {
			l, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(int(port))))
			if err != nil {
				errs = append(errs, fmt.Errorf("cannot answer health checks of Service %s: %w", owner, err))
				continue
			}
			s = &healthServer{owner: owner, closed: make(chan struct{})}
			s.http = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
			h.servers[port] = s
			go func() {
				_ = s.http.Serve(l)
				close(s.closed)
			}()
		}
		s.ready.Store(int64(h.wanted[owner].ready))
	}
	return errors.Join(errs...)
}

// ServeHTTP answers as upstream does: 200 when there are local endpoints, else 503.
func (s *healthServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ready := s.ready.Load()
	namespace, name, _ := strings.Cut(s.owner, "/")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(ready, 10))
	if ready == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"service":             map[string]string{"namespace": namespace, "name": name},
		"localEndpoints":      ready,
		"serviceProxyHealthy": true,
	})
}

func (s *healthServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.closed
	return err
}

func (h *health) close() error {
	var errs []error
	for port, s := range h.servers {
		errs = append(errs, s.close())
		delete(h.servers, port)
	}
	return errors.Join(errs...)
}
