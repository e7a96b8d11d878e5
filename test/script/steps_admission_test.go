package script

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/lib/pki"
)

// webhooks starts the HTTPS server of admission webhooks and puts its address,
// port and authority into the named files, in the place of $ADDRESS, $PORT and
// $CA. At /deny it denies what has the label deny, at /mutate it labels objects.
func webhooks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: webhooks file...")
	}
	// An endpoint of a Service must not be a loopback address.
	conn, err := net.Dial("udp4", "192.0.2.1:9")
	ts.Check(err)
	address := conn.LocalAddr().(*net.UDPAddr).IP
	conn.Close()
	a, err := pki.LoadOrCreateAuthority(ts.MkAbs("hook-ca"), "ca", "hook-ca", time.Now())
	ts.Check(err)
	pair, err := a.Issue(pki.Leaf{CommonName: "hook", DNSNames: []string{"hook.demo.svc"}, Addresses: []net.IP{address}, Server: true}, time.Now())
	ts.Check(err)
	l, err := net.Listen("tcp4", net.JoinHostPort(address.String(), "0"))
	ts.Check(err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(review))
	s.Listener.Close()
	s.Listener, s.TLS = l, &tls.Config{Certificates: []tls.Certificate{pair.TLS}}
	s.StartTLS()
	ts.Defer(s.Close)
	fill := strings.NewReplacer("$ADDRESS", address.String(), "$PORT", strconv.Itoa(l.Addr().(*net.TCPAddr).Port), "$CA", base64.StdEncoding.EncodeToString(a.CertPEM))
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(fill.Replace(ts.ReadFile(name))), 0o644))
	}
}

func review(w http.ResponseWriter, r *http.Request) {
	var q admissionv1.AdmissionReview
	var o metav1.PartialObjectMetadata
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := json.Unmarshal(q.Request.Object.Raw, &o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := &admissionv1.AdmissionResponse{UID: q.Request.UID, Allowed: true}
	switch r.URL.Path {
	case "/deny":
		if why, ok := o.Labels["deny"]; ok {
			out.Allowed, out.Result = false, &metav1.Status{Message: why}
		}
		out.Warnings = []string{"looked at " + o.Name}
	case "/mutate":
		sort := admissionv1.PatchTypeJSONPatch
		labels := map[string]string{"touched": "yes"}
		for k, v := range o.Labels {
			labels[k] = v
		}
		patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/metadata/labels", "value": labels}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		out.Patch, out.PatchType = patch, &sort
		out.AuditAnnotations = map[string]string{"user": q.Request.UserInfo.Username}
	}
	q.Request, q.Response = nil, out
	_ = json.NewEncoder(w).Encode(q)
}
