package callout_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sagong/apiserver/callout"
)

// A service is asked again when that may help, is believed only when it says so,
// and cannot send the API server elsewhere.
func TestPost(t *testing.T) {
	var calls atomic.Int32
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			http.Error(w, "who are you", http.StatusUnauthorized)
		case r.URL.Path == "/flaky" && n < 3:
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case r.URL.Path == "/away":
			http.Redirect(w, r, "/flaky", http.StatusFound)
		case r.URL.Path == "/bad":
			http.Error(w, "no", http.StatusBadRequest)
		case r.URL.Path == "/garbage":
			_, _ = w.Write([]byte("<html>"))
		default:
			var in map[string]string
			_ = json.NewDecoder(r.Body).Decode(&in)
			_ = json.NewEncoder(w).Encode(map[string]string{"got": in["say"]})
		}
	}))
	defer s.Close()
	for path, x := range map[string]struct {
		fail  string
		calls int32
	}{
		"/ok": {"", 1}, "/flaky": {"", 3}, "/away": {"it answered 302", 1}, "/bad": {"it answered 400 Bad Request", 1}, "/garbage": {"invalid character", 1},
	} {
		calls.Store(0)
		file := filepath.Join(t.TempDir(), "kubeconfig")
		if err := os.WriteFile(file, []byte("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {insecure-skip-tls-verify: true, server: '"+s.URL+path+"'}}]\nusers: [{name: u, user: {token: secret}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := callout.Open(file, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		c.Wait = time.Microsecond
		var out map[string]string
		err = c.Post(t.Context(), map[string]string{"say": "hello"}, &out)
		if x.fail == "" && (err != nil || out["got"] != "hello") || x.fail != "" && (err == nil || !strings.Contains(err.Error(), x.fail)) || calls.Load() != x.calls {
			t.Errorf("%s: %v, %v, asked %d times", path, out, err, calls.Load())
		}
	}
	if _, err := callout.Open("/does/not/exist", time.Minute); err == nil {
		t.Error("a file that is not there is taken")
	}
}
