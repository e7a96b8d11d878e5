package certificates_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kinds/certificates"
)

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encoded(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// certificate signs a key for a time, by itself.
func certificate(t *testing.T, k crypto.Signer, from time.Time, life time.Duration, change ...func(*x509.Certificate)) string {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "c"}, NotBefore: from, NotAfter: from.Add(life), BasicConstraintsValid: true}
	for _, f := range change {
		f(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return encoded("CERTIFICATE", der)
}

// expect compares what a kind says about an object with what it should: a part of
// each error, in order.
func expect(t *testing.T, name string, errs []error, want ...string) {
	t.Helper()
	if len(errs) != len(want) {
		t.Errorf("%s: %v, want %q", name, errs, want)
		return
	}
	for i, err := range errs {
		if !strings.Contains(err.Error(), want[i]) {
			t.Errorf("%s: %v, want %q", name, err, want[i])
		}
	}
}

func listed[T error](errs []T) (all []error) {
	for _, err := range errs {
		all = append(all, err)
	}
	return all
}

func TestSigningRequest(t *testing.T) {
	d := certificates.CertificateSigningRequest()
	k := key(t)
	good := func(change ...func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
		r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: []byte(encoded("CERTIFICATE REQUEST", request(t, k))), SignerName: "example.com/s", Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		}}
		for _, f := range change {
			f(r)
		}
		return r
	}
	with := func(types ...certificatesv1.RequestConditionType) func(*certificatesv1.CertificateSigningRequest) {
		return func(r *certificatesv1.CertificateSigningRequest) {
			for _, c := range types {
				r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: c, Status: corev1.ConditionTrue})
			}
		}
	}
	issued := func(data string) func(*certificatesv1.CertificateSigningRequest) {
		return func(r *certificatesv1.CertificateSigningRequest) { r.Status.Certificate = []byte(data) }
	}
	cert := certificate(t, k, time.Now(), time.Hour)
	for name, x := range map[string]struct {
		r    *certificatesv1.CertificateSigningRequest
		want []string
	}{
		"good":      {good(), nil},
		"no usages": {good(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Usages = nil }), []string{"spec.usages: Required value"}},
		"legacy": {good(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "kubernetes.io/legacy-unknown" }),
			[]string{`spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version`}},
		"another's signature": {good(func(r *certificatesv1.CertificateSigningRequest) {
			der := request(t, k)
			der[len(der)-1] ^= 1
			r.Spec.Request = []byte(encoded("CERTIFICATE REQUEST", der))
		}), []string{"spec.request: Invalid value: "}},
		"labels of the domain": {good(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "Ex_ample.com/s" }),
			[]string{`spec.signerName: Invalid value: "Ex_ample.com": validating label "Ex_ample": a lowercase RFC 1123 label`}},
		"labels of the path": {good(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "example.com/a..b" }),
			[]string{`spec.signerName: Invalid value: "a..b": validating label "": a lowercase RFC 1123 subdomain`}},
		"one segment": {good(func(r *certificatesv1.CertificateSigningRequest) { r.Spec.SignerName = "com/s" }),
			[]string{`spec.signerName: Invalid value: "com": should be a domain with at least two segments separated by dots`}},
	} {
		expect(t, name, listed(d.Validate(x.r)), x.want...)
	}
	for name, x := range map[string]struct {
		way    string
		r, old *certificatesv1.CertificateSigningRequest
		want   []string
	}{
		"approved by approval":  {"approval", good(with("Approved")), good(), nil},
		"approved by status":    {"status", good(with("Approved")), good(), []string{`updates may not add a condition of type "Approved"`}},
		"approved by update":    {"", good(with("Approved")), good(), []string{`updates may not add a condition of type "Approved"`}},
		"taken back":            {"approval", good(), good(with("Denied")), []string{`updates may not remove a condition of type "Denied"`}},
		"failed by status":      {"status", good(with("Failed")), good(), nil},
		"issued by status":      {"status", good(issued(cert)), good(), nil},
		"issued by approval":    {"approval", good(issued(cert)), good(), []string{"status.certificate: Forbidden: updates may not set certificate content"}},
		"issued again":          {"status", good(issued(cert + cert)), good(issued(cert)), []string{"status.certificate: Forbidden: updates may not modify existing certificate content"}},
		"nothing of PEM":        {"status", good(issued("x")), good(), []string{"must contain at least one CERTIFICATE PEM block"}},
		"something else of PEM": {"status", good(issued(encoded("PRIVATE KEY", nil))), good(), []string{`only CERTIFICATE PEM blocks are allowed, found "PRIVATE KEY"`}},
		"both before":           {"approval", good(with("Approved", "Denied")), good(with("Approved", "Denied")), nil},
	} {
		errs := listed(d.ValidateUpdate(x.r, x.old))
		switch x.way {
		case "status":
			errs = listed(d.ValidateStatusUpdate(x.r, x.old))
		case "approval":
			errs = listed(certificates.ValidateApproval(x.r, x.old))
		}
		expect(t, name, errs, x.want...)
	}
	// A signer cannot change what was decided, and its own conditions get times.
	old := good(with("Approved"))
	old.Status.Conditions[0].Reason = "byHand"
	r := good(with("Approved", "Failed"))
	d.PrepareStatusUpdate(t.Context(), r, old)
	if c := r.Status.Conditions; c[0].Reason != "byHand" || c[1].LastUpdateTime.IsZero() || c[1].LastTransitionTime.IsZero() {
		t.Errorf("conditions written by a signer: %+v", c)
	}
}

func TestTrustBundle(t *testing.T) {
	d := certificates.ClusterTrustBundle()
	k := key(t)
	ca := certificate(t, k, time.Now(), time.Hour, func(c *x509.Certificate) { c.IsCA = true })
	other := certificate(t, key(t), time.Now(), time.Hour, func(c *x509.Certificate) { c.IsCA = true })
	headers := strings.Replace(ca, "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nA: b\n\n", 1)
	for name, x := range map[string]struct {
		name, signer, text string
		want               []string
	}{
		"good":             {"example.com:s:a", "example.com/s", "comment\n" + ca + other, nil},
		"no signer":        {"a", "", ca, nil},
		"colon":            {"a:b", "", ca, []string{`metadata.name: Invalid value: "a:b": ClusterTrustBundle without signer name must not have ":" in its name`}},
		"another's prefix": {"example.com:t:a", "example.com/s", ca, []string{"ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:"}},
		"bad rest":         {"example.com:s:A", "example.com/s", ca, []string{"a lowercase RFC 1123 subdomain"}},
		"empty":            {"a", "", "", []string{`spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided`}},
		"a leaf":           {"a", "", certificate(t, k, time.Now(), time.Hour), []string{"entry 0 does not have the CA bit set"}},
		"headers":          {"a", "", headers, []string{"entry 0 has PEM block headers"}},
		"twice":            {"a", "", ca + other + ca, []string{"duplicate trust anchor (indices [0 2])"}},
		"a key":            {"a", "", ca + encoded("PRIVATE KEY", nil), []string{"entry 1 has bad block type: PRIVATE KEY"}},
		"too long":         {"a", "", strings.Repeat(" ", 1<<20) + ca, []string{"spec.trustBundle: Too long"}},
	} {
		b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: x.name}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: x.signer, TrustBundle: x.text}}
		expect(t, name, listed(d.Validate(b)), x.want...)
	}
	// What was taken once stays, so that old bundles can be labelled.
	old := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: "x"}}
	expect(t, "unchanged", listed(d.ValidateUpdate(old, old)))
}

func TestPodCertificateRequest(t *testing.T) {
	d := certificates.PodCertificateRequest()
	k := key(t)
	day := int32(86400)
	good := func(change ...func(*certificatesv1.PodCertificateRequest)) *certificatesv1.PodCertificateRequest {
		r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "r"}, Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: "example.com/s", PodName: "p", PodUID: "1", ServiceAccountName: "bot", ServiceAccountUID: "2", NodeName: "n", NodeUID: "3",
			MaxExpirationSeconds: &day, StubPKCS10Request: request(t, k),
		}}
		for _, f := range change {
			f(r)
		}
		return r
	}
	_, plain, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	type req = certificatesv1.PodCertificateRequest
	week := int32(7 * 86400)
	for name, x := range map[string]struct {
		change func(*req)
		want   []string
	}{
		"good":     {func(*req) {}, nil},
		"Ed25519":  {func(r *req) { r.Spec.StubPKCS10Request = request(t, plain) }, nil},
		"RSA 2048": {func(r *req) { r.Spec.StubPKCS10Request = request(t, small) }, []string{`spec.stubPKCS10Request: Invalid value: "2048-bit modulus": RSA keys must have modulus size 3072 or 4096`}},
		"no CSR":   {func(r *req) { r.Spec.StubPKCS10Request = []byte("x") }, []string{"must be a valid PKCS#10 CSR"}},
		"another's signature": {func(r *req) {
			r.Spec.StubPKCS10Request = bytes.Clone(r.Spec.StubPKCS10Request)
			r.Spec.StubPKCS10Request[len(r.Spec.StubPKCS10Request)-1] ^= 1
		}, []string{"spec.stubPKCS10Request: Invalid value"}},
		"a long life by Kubernetes": {func(r *req) { r.Spec.SignerName, r.Spec.MaxExpirationSeconds = "kubernetes.io/s", &week }, []string{"spec.maxExpirationSeconds: Invalid value: 604800: must be in the range [3600, 86400]"}},
		"a long life by others":     {func(r *req) { r.Spec.MaxExpirationSeconds = &week }, nil},
		"no uid":                    {func(r *req) { r.Spec.PodUID = "" }, []string{`spec.podUID: Invalid value: "": must not be empty`}},
		"a long uid": {func(r *req) {
			r.Spec.NodeUID = "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
		}, []string{"spec.nodeUID: Too long"}},
		"annotations": {func(r *req) { r.Spec.UnverifiedUserAnnotations = map[string]string{"example.com/a": "b", "plain": "c"} },
			[]string{`spec.unverifiedUserAnnotations: Invalid value: "plain": must be a domain-prefixed key`}},
	} {
		expect(t, name, listed(d.Validate(good(x.change))), x.want...)
	}

	now := time.Now().Truncate(time.Second)
	at := func(d time.Duration) *metav1.Time { t := metav1.NewTime(now.Add(d)); return &t }
	outcome := func(as string) metav1.Condition {
		return metav1.Condition{Type: as, Status: metav1.ConditionTrue, Reason: "r", LastTransitionTime: *at(0)}
	}
	issued := func(change ...func(*req)) *req {
		r := good()
		r.Status = certificatesv1.PodCertificateRequestStatus{
			Conditions: []metav1.Condition{outcome("Issued")}, CertificateChain: certificate(t, k, now, 2*time.Hour),
			NotBefore: at(0), NotAfter: at(2 * time.Hour), BeginRefreshAt: at(time.Hour),
		}
		for _, f := range change {
			f(r)
		}
		return r
	}
	done := issued()
	for name, x := range map[string]struct {
		r, old *req
		want   []string
	}{
		"issued":       {done, good(), nil},
		"issued twice": {issued(func(r *req) { r.Status.BeginRefreshAt = at(30 * time.Minute) }), done, []string{"status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"}},
		"denied":       {good(func(r *req) { r.Status.Conditions = []metav1.Condition{outcome("Denied")} }), good(), nil},
		"denied with a certificate": {issued(func(r *req) { r.Status.Conditions[0].Type = "Denied" }), good(),
			[]string{"status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest"}},
		"no outcome":      {issued(func(r *req) { r.Status.Conditions = nil }), good(), []string{`status is immutable unless transitioning to "Issued", "Denied", or "Failed"`}},
		"another outcome": {good(func(r *req) { r.Status.Conditions = []metav1.Condition{outcome("Ready")} }), good(), []string{`status.conditions.[0].type: Unsupported value: "Ready"`}},
		"two outcomes": {good(func(r *req) { r.Status.Conditions = []metav1.Condition{outcome("Failed"), outcome("Denied")} }), good(),
			[]string{`status.conditions.[1].type: Invalid value: "Denied": There may be at most one condition with type "Issued", "Denied", or "Failed"`}},
		"another's key": {issued(func(r *req) { r.Status.CertificateChain = certificate(t, plain, now, 2*time.Hour) }), good(), []string{"leaf certificate was not issued to the requested public key"}},
		"no times": {issued(func(r *req) { r.Status.NotBefore, r.Status.NotAfter, r.Status.BeginRefreshAt = nil, nil, nil }), good(),
			[]string{"status.notBefore: Required value", "status.notAfter: Required value", "status.beginRefreshAt: Required value"}},
		"other times":    {issued(func(r *req) { r.Status.NotAfter = at(3 * time.Hour) }), good(), []string{"must be set to the NotAfter time encoded in the leaf certificate"}},
		"refreshed late": {issued(func(r *req) { r.Status.BeginRefreshAt = at(2 * time.Hour) }), good(), []string{"must be at least 10 minutes before status.notAfter"}},
		"a short life": {issued(func(r *req) {
			r.Status.CertificateChain, r.Status.NotAfter = certificate(t, k, now, time.Minute), at(time.Minute)
		}), good(), []string{"leaf certificate lifetime must be >= 1 hour"}},
		"a key in between": {issued(func(r *req) { r.Status.CertificateChain += encoded("PRIVATE KEY", nil) }), good(), []string{"must consist entirely of CERTFICATE PEM blocks"}},
		"nothing":          {issued(func(r *req) { r.Status.CertificateChain = "" }), good(), []string{"issued certificate chain must contain at least one certificate"}},
		"long ago": {issued(func(r *req) {
			r.Status.CertificateChain, r.Status.NotBefore = certificate(t, k, now.Add(-time.Hour), 3*time.Hour), at(-time.Hour)
		}), good(), []string{"must be set to within 5 minutes of kube-apiserver's current time"}},
	} {
		// The request is signed anew each time; here it does not change.
		x.r.Spec = x.old.Spec
		expect(t, name, listed(d.ValidateStatusUpdate(x.r, x.old)), x.want...)
	}
	r := good(func(r *req) {
		r.Status.Conditions = []metav1.Condition{{Type: "Failed", Status: metav1.ConditionTrue, Reason: "r"}}
	})
	d.PrepareStatusUpdate(t.Context(), r, good())
	if r.Status.Conditions[0].LastTransitionTime.IsZero() {
		t.Error("a condition has no time")
	}
}
