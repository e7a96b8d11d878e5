package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/controller/identity"
	"sagong/lib/pki"
	"sagong/object"
	"sagong/reconcile"
)

type views = []*reconcile.View[*corev1.Secret]

func signing(t *testing.T, name, signer string, template x509.CertificateRequest, usages ...certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	begin := metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) // of virtual time
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: begin},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: usages, Username: template.Subject.CommonName,
		},
		Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
			{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, LastUpdateTime: begin, LastTransitionTime: begin},
		}},
	}
}

// A node gets a serving certificate for what it says that it is called, but for no
// name or address of the API.
func TestServingCertificatesOfNodes(t *testing.T) {
	service, machine := net.IPv4(10, 96, 0, 1), net.IPv4(192, 0, 2, 1)
	api := pki.Leaf{DNSNames: []string{"localhost", "machine", "kubernetes", "kubernetes.default.svc"}, Addresses: []net.IP{net.IPv4(127, 0, 0, 1), service, machine}}
	type req = x509.CertificateRequest
	cases := map[string]struct {
		req      req
		approved bool
	}{
		"own":            {req{DNSNames: []string{"n1"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}, true},
		"reported":       {req{DNSNames: []string{"n1.example.com"}}, true},
		"not-reported":   {req{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 2)}}, false},
		"service":        {req{IPAddresses: []net.IP{service}}, false},
		"service-16":     {req{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), service.To16()}}, false},
		"machine":        {req{IPAddresses: []net.IP{machine}}, false},
		"loopback":       {req{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, false},
		"service-name":   {req{DNSNames: []string{"kubernetes.default.svc"}}, false},
		"service-domain": {req{DNSNames: []string{"kubernetes.default.svc.another.domain"}}, false},
		"machine-name":   {req{DNSNames: []string{"Machine"}}, false},
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	for _, ip := range []net.IP{net.IPv4(10, 0, 0, 1), net.IPv4(127, 0, 0, 1), service, machine} {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	for _, name := range []string{"n1.example.com", "kubernetes.default.svc", "kubernetes.default.svc.another.domain", "Machine"} {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalDNS, Address: name})
	}
	dir, objs := t.TempDir(), []object.Object{node}
	for name, x := range cases {
		x.req.Subject = pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}
		r := signing(t, name, certificatesv1.KubeletServingSignerName, x.req, certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth)
		r.Status.Conditions = nil
		objs = append(objs, r)
	}
	run(t, objs, func(_ client.Client, h *reconcile.Hub) ([]reconcile.Controller, views) {
		ca, err := pki.LoadOrCreateAuthority(dir, "ca", "kubernetes", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return []reconcile.Controller{identity.NewCertificates(h, ca, api, quiet, time.Now)}, nil
	}, func(t *testing.T, c *fake.Client) {
		for name, x := range cases {
			r, err := client.Get[*certificatesv1.CertificateSigningRequest](t.Context(), c, "", name)
			if err != nil {
				t.Fatal(err)
			}
			if issued := len(r.Status.Certificate) > 0; issued != x.approved {
				t.Errorf("%s: issued %t: %+v", name, issued, r.Status.Conditions)
			}
		}
	})
}

// Approved requests are signed when they are what their signer signs, and say why
// not otherwise.
func TestSigners(t *testing.T) {
	const (
		signature    = certificatesv1.UsageDigitalSignature
		encipherment = certificatesv1.UsageKeyEncipherment
		ofClients    = certificatesv1.UsageClientAuth
		ofServers    = certificatesv1.UsageServerAuth
	)
	node := pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}
	jane := pkix.Name{CommonName: "jane", Organization: []string{"dev"}, OrganizationalUnit: []string{"unit"}}
	address := []net.IP{net.IPv4(10, 0, 0, 1)}
	type req = x509.CertificateRequest
	cases := map[string]struct {
		signer string
		req    req
		usages []certificatesv1.KeyUsage
		want   string
	}{
		"client":            {certificatesv1.KubeAPIServerClientSignerName, req{Subject: jane, EmailAddresses: []string{"jane@example.com"}}, []certificatesv1.KeyUsage{ofClients}, ""},
		"client-server":     {certificatesv1.KubeAPIServerClientSignerName, req{Subject: jane}, []certificatesv1.KeyUsage{ofClients, ofServers}, "invalid usage for client certificate: server auth"},
		"client-none":       {certificatesv1.KubeAPIServerClientSignerName, req{Subject: jane}, []certificatesv1.KeyUsage{signature}, "missing required usage for client certificate: client auth"},
		"node":              {certificatesv1.KubeAPIServerClientKubeletSignerName, req{Subject: node}, []certificatesv1.KeyUsage{signature, encipherment, ofClients}, ""},
		"node-short":        {certificatesv1.KubeAPIServerClientKubeletSignerName, req{Subject: node}, []certificatesv1.KeyUsage{signature, ofClients}, ""},
		"node-usages":       {certificatesv1.KubeAPIServerClientKubeletSignerName, req{Subject: node}, []certificatesv1.KeyUsage{ofClients}, "usages did not match [client auth digital signature key encipherment]"},
		"node-names":        {certificatesv1.KubeAPIServerClientKubeletSignerName, req{Subject: node, DNSNames: []string{"n1"}}, []certificatesv1.KeyUsage{signature, ofClients}, "DNS subjectAltNames are not allowed"},
		"node-address":      {certificatesv1.KubeAPIServerClientKubeletSignerName, req{Subject: node, IPAddresses: address}, []certificatesv1.KeyUsage{signature, ofClients}, "IP subjectAltNames are not allowed"},
		"node-organization": {certificatesv1.KubeAPIServerClientKubeletSignerName, req{Subject: jane}, []certificatesv1.KeyUsage{signature, ofClients}, "subject organization is not system:nodes"},
		"serving":           {certificatesv1.KubeletServingSignerName, req{Subject: node, IPAddresses: address}, []certificatesv1.KeyUsage{signature, ofServers}, ""},
		"serving-nameless":  {certificatesv1.KubeletServingSignerName, req{Subject: node}, []certificatesv1.KeyUsage{signature, ofServers}, "DNS or IP subjectAltName is required"},
		"serving-name": {certificatesv1.KubeletServingSignerName, req{Subject: pkix.Name{CommonName: "n1", Organization: node.Organization}, IPAddresses: address}, []certificatesv1.KeyUsage{signature, ofServers},
			"subject common name does not begin with system:node:"},
	}
	dir := t.TempDir()
	var objs []object.Object
	for name, x := range cases {
		objs = append(objs, signing(t, name, x.signer, x.req, x.usages...))
	}
	run(t, objs, func(_ client.Client, h *reconcile.Hub) ([]reconcile.Controller, views) {
		ca, err := pki.LoadOrCreateAuthority(dir, "ca", "kubernetes", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return []reconcile.Controller{identity.NewCertificates(h, ca, pki.Leaf{}, quiet, time.Now)}, nil
	}, func(t *testing.T, c *fake.Client) {
		for name, x := range cases {
			r, err := client.Get[*certificatesv1.CertificateSigningRequest](t.Context(), c, "", name)
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
				return c.Type == certificatesv1.CertificateFailed
			})
			switch {
			case x.want != "" && (at < 0 || r.Status.Conditions[at].Message != x.want || r.Status.Conditions[at].Reason != "SignerValidationFailure"):
				t.Errorf("%s: %+v, want %q", name, r.Status.Conditions, x.want)
			case x.want == "" && len(r.Status.Certificate) == 0:
				t.Errorf("%s: not issued: %+v", name, r.Status.Conditions)
			}
		}
		r, err := client.Get[*certificatesv1.CertificateSigningRequest](t.Context(), c, "", "client")
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.ParseCertificate(r.Status.Certificate)
		if err != nil || cert.KeyUsage != 0 || !slices.Equal(cert.Subject.OrganizationalUnit, []string{"unit"}) || !slices.Equal(cert.EmailAddresses, []string{"jane@example.com"}) {
			t.Errorf("what was issued: %+v, %v", cert, err)
		}
		// An hour after they ended they are gone.
		time.Sleep(time.Hour)
		synctest.Wait()
		if l, _, err := client.ListOf[*certificatesv1.CertificateSigningRequest](t.Context(), c, "", client.ListOptions{}); err != nil || len(l) > 0 {
			t.Errorf("after an hour: %d requests, %v", len(l), err)
		}
	})
}

func TestTrustBundle(t *testing.T) {
	authority := func(name string) string {
		ca, err := pki.LoadOrCreateAuthority(t.TempDir(), "ca", name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return string(ca.CertPEM)
	}
	x, y := authority("x"), authority("y")
	hash := sha256.Sum256([]byte(x))
	name := "kubernetes.io:kube-apiserver-serving:" + hex.EncodeToString(hash[:12])
	bundle := func(name, signer, text string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text}}
	}
	objs := []object.Object{
		bundle("kubernetes.io:kube-apiserver-serving:old", "kubernetes.io/kube-apiserver-serving", "old"), bundle("example.com:s:a", "example.com/s", "a"), bundle("plain", "", "p"),
	}
	run(t, objs, func(_ client.Client, h *reconcile.Hub) ([]reconcile.Controller, views) {
		return []reconcile.Controller{identity.NewTrustBundle(h, []byte(x))}, nil
	}, func(t *testing.T, c *fake.Client) {
		expect := func(when string) {
			t.Helper()
			synctest.Wait()
			all, _, err := client.ListOf[*certificatesv1.ClusterTrustBundle](t.Context(), c, "", client.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, b := range all {
				got[b.Name] = b.Spec.SignerName + " " + b.Spec.TrustBundle
			}
			if len(got) != 3 || got[name] != "kubernetes.io/kube-apiserver-serving "+x || got["plain"] == "" || got["example.com:s:a"] == "" {
				t.Errorf("%s: %v", when, got)
			}
		}
		expect("at first")
		have, err := client.Get[*certificatesv1.ClusterTrustBundle](t.Context(), c, "", name)
		if err != nil {
			t.Fatal(err)
		}
		have = have.DeepCopy()
		have.Spec.TrustBundle = y
		if _, err := client.Update(t.Context(), c, have); err != nil {
			t.Fatal(err)
		}
		expect("changed by hand")
		if err := client.Delete[*certificatesv1.ClusterTrustBundle](t.Context(), c, "", name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		expect("deleted by hand")
	})
}

func TestPodCertificateCleaner(t *testing.T) {
	r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "r", CreationTimestamp: metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))}}
	run(t, []object.Object{r}, func(_ client.Client, h *reconcile.Hub) ([]reconcile.Controller, views) {
		return []reconcile.Controller{identity.NewPodCertificateCleaner(h, time.Now)}, nil
	}, func(t *testing.T, c *fake.Client) {
		there := func() bool {
			synctest.Wait()
			_, err := client.Get[*certificatesv1.PodCertificateRequest](t.Context(), c, "ns", "r")
			if err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			return err == nil
		}
		time.Sleep(14 * time.Minute)
		if !there() {
			t.Error("removed early")
		}
		time.Sleep(2 * time.Minute)
		if there() {
			t.Error("kept")
		}
	})
}
