package webhookclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/apiserver/webhookclient"
	"sagong/lib/pki"
)

// hook is an HTTPS server for the names given.
func hook(t *testing.T, names []string, h http.HandlerFunc) (at string, ca []byte, connections *atomic.Int32) {
	t.Helper()
	a, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", "hook-ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := a.Issue(pki.Leaf{CommonName: "hook", DNSNames: names, Addresses: []net.IP{net.IPv4(127, 0, 0, 1)}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	connections = &atomic.Int32{}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), a.CertPEM, connections
}

func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Write([]byte(r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(b)))
}

type fixed string

func (f fixed) Resolve(_ context.Context, namespace, name string, port int32) (string, error) {
	if namespace != "ns" || name != "svc" || port != 443 {
		return "", errors.New("asked for another service")
	}
	return string(f), nil
}

func TestByURLAndService(t *testing.T) {
	at, ca, connections := hook(t, []string{"svc.ns.svc"}, echo)
	c := webhookclient.New(fixed(at), nil)
	for _, tc := range []struct {
		cfg  webhookclient.Config
		want string
	}{
		{webhookclient.Config{URL: "https://" + at + "/a/b", CABundle: ca}, "POST /a/b application/json {}"},
		{webhookclient.Config{Service: &webhookclient.Service{Namespace: "ns", Name: "svc", Path: "/x"}, CABundle: ca}, "POST /x application/json {}"},
	} {
		before := connections.Load()
		for range 5 {
			got, err := c.Post(t.Context(), tc.cfg, []byte("{}"), 1000)
			if err != nil || string(got) != tc.want {
				t.Fatalf("%+v: %q, %v", tc.cfg.Service, got, err)
			}
		}
		if n := connections.Load() - before; n != 1 {
			t.Errorf("five calls used %d connections", n)
		}
	}
}

func TestTimeoutIsToldAndKept(t *testing.T) {
	got := make(chan string, 1)
	at, ca, _ := hook(t, nil, func(w http.ResponseWriter, r *http.Request) {
		got <- r.URL.Query().Get("timeout")
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // an answer might still be taken
	})
	ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
	defer cancel()
	_, err := webhookclient.New(nil, nil).Post(ctx, webhookclient.Config{URL: "https://" + at, CABundle: ca}, []byte("{}"), 10)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	var u *url.Error
	if !errors.As(err, &u) || !strings.HasSuffix(u.URL, "?timeout=1s") {
		t.Errorf("the error does not name the call: %v", err)
	}
	select {
	case s := <-got:
		if s != "1s" {
			t.Errorf("told a timeout of %q", s)
		}
	default: // the machine was too busy for the call to arrive in time
	}
}

// CVE-2020-8561: a webhook that redirects must not make the API server fetch
// what its operator cannot reach, nor may an answer from there be repeated.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var inner atomic.Int32
	secret, _, _ := hook(t, nil, func(w http.ResponseWriter, r *http.Request) { inner.Add(1) })
	for _, code := range []int{301, 302, 303, 307, 308} {
		at, ca, _ := hook(t, nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://"+secret+"/metadata")
			w.WriteHeader(code)
			w.Write([]byte("the secret"))
		})
		_, err := webhookclient.New(nil, nil).Post(t.Context(), webhookclient.Config{URL: "https://" + at, CABundle: ca}, []byte("{}"), 1000)
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), secret) {
			t.Errorf("%d: %v", code, err)
		}
	}
	if inner.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// An answer without end is not awaited, let alone kept.
func TestEndlessAnswer(t *testing.T) {
	at, ca, _ := hook(t, nil, func(w http.ResponseWriter, r *http.Request) {
		for block := make([]byte, 64<<10); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := webhookclient.New(nil, nil).Post(ctx, webhookclient.Config{URL: "https://" + at, CABundle: ca}, []byte("{}"), 1000); err == nil || !strings.Contains(err.Error(), "the answer has more than 1000 bytes") {
		t.Errorf("err = %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	at, ca, _ := hook(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/500" {
			w.WriteHeader(500)
			w.Write([]byte("internal details"))
			return
		}
		w.Write(make([]byte, 2000))
	})
	c := webhookclient.New(nil, nil)
	for _, tc := range []struct {
		cfg  webhookclient.Config
		want string
	}{
		{webhookclient.Config{URL: "https://" + at, CABundle: ca}, "the answer has more than 1000 bytes"},
		{webhookclient.Config{URL: "https://" + at + "/500", CABundle: ca}, `an error on the server ("unknown") has prevented the request from succeeding`},
		{webhookclient.Config{URL: "https://" + at}, "certificate signed by unknown authority"},
		{webhookclient.Config{URL: "https://" + at, CABundle: []byte("nonsense")}, "unable to parse bytes as PEM block"},
		{webhookclient.Config{URL: "http://" + at, CABundle: ca}, "must have a URL of the form"},
		{webhookclient.Config{URL: "https://me:pw@" + at, CABundle: ca}, "must have a URL of the form"},
		{webhookclient.Config{URL: "https://" + at + "/?q=1", CABundle: ca}, "must have a URL of the form"},
		{webhookclient.Config{Service: &webhookclient.Service{Namespace: "a", Name: "b"}, CABundle: ca}, "cannot resolve services"},
	} {
		_, err := c.Post(t.Context(), tc.cfg, []byte("{}"), 1000)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.cfg.URL, err, tc.want)
		}
	}
	if _, err := c.Post(t.Context(), webhookclient.Config{URL: "https://" + at + "/500", CABundle: ca}, nil, 1); !apierrors.IsInternalError(err) {
		t.Errorf("a 500 became %v", err)
	}
}

// A webhook that has no time now, and says when it will have, is asked again with
// the same question; not for ever, and not when it says nothing.
func TestAsksAgainWhenToldTo(t *testing.T) {
	for _, tc := range []struct {
		name, after string
		code, bad   int // the answers of that code before a good one
		asked       int32
		err         string
	}{
		{"busy", "0", http.StatusTooManyRequests, 2, 3, ""},
		{"away", "0", http.StatusServiceUnavailable, 10, 11, ""},
		{"in the past", "-1", http.StatusInternalServerError, 1, 2, ""},
		{"too often", "0", http.StatusServiceUnavailable, 11, 11, "the server is currently unable to handle the request"},
		{"no word", "", http.StatusServiceUnavailable, 1, 1, "the server is currently unable to handle the request"},
		{"a date", "Wed, 21 Oct 2026 07:28:00 GMT", http.StatusServiceUnavailable, 1, 1, "the server is currently unable to handle the request"},
		{"no matter of time", "0", http.StatusNotFound, 1, 1, "the server could not find the requested resource"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked atomic.Int32
			at, ca, connections := hook(t, nil, func(w http.ResponseWriter, r *http.Request) {
				if int(asked.Add(1)) > tc.bad {
					echo(w, r)
					return
				}
				if tc.after != "" {
					w.Header().Set("Retry-After", tc.after)
				}
				w.WriteHeader(tc.code)
				io.WriteString(w, "later")
			})
			got, err := webhookclient.New(nil, nil).Post(t.Context(), webhookclient.Config{URL: "https://" + at + "/x", CABundle: ca}, []byte("{}"), 1000)
			if tc.err == "" && (err != nil || string(got) != "POST /x application/json {}") || tc.err != "" && (err == nil || err.Error() != tc.err) {
				t.Errorf("answer %q, %v", got, err)
			}
			if asked.Load() != tc.asked || connections.Load() != 1 {
				t.Errorf("asked %d times over %d connections, want %d over one", asked.Load(), connections.Load(), tc.asked)
			}
		})
	}
}

// Who waits to ask again stops when the write's time is over.
func TestWaitsNoLongerThanTheWrite(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	at, ca, _ := hook(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
		cancel()
	})
	_, err := webhookclient.New(nil, nil).Post(ctx, webhookclient.Config{URL: "https://" + at, CABundle: ca}, []byte("{}"), 10)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
