package config

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestServing(t *testing.T) {
	for value, want := range map[string]NamedCert{
		"a.crt,a.key":                {Cert: "a.crt", Key: "a.key"},
		"a.crt,a.key:b.com, *.c.com": {Cert: "a.crt", Key: "a.key", Names: []string{"b.com", "*.c.com"}},
	} {
		if got, err := ParseNamedCert(value); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "a.crt", "a.crt,", ",a.key", "a,b,c", "a,b:", "a,b:c,"} {
		if _, err := ParseNamedCert(value); err == nil {
			t.Errorf("%q is taken", value)
		}
	}
	// A value with commas is one value, as a flag and in the environment.
	c := Defaults()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.AddFlags(fs)
	if err := fs.Parse([]string{"--tls-sni-cert-key", "a,b:c,d", "--tls-sni-cert-key", "e,f"}); err != nil || len(c.SNICerts) != 2 {
		t.Errorf("%q, %v", c.SNICerts, err)
	}
	err := c.Load("", func(name string) (string, bool) { return "a,b g,h:i,j", name == "SAGONG_TLS_SNI_CERT_KEY" }, func(string) bool { return false })
	if err != nil || !reflect.DeepEqual(c.SNICerts, []string{"a,b", "g,h:i,j"}) {
		t.Errorf("%q, %v", c.SNICerts, err)
	}
	c.completeServing()
	if !filepath.IsAbs(strings.Split(c.SNICerts[0], ",")[1]) {
		t.Errorf("%q", c.SNICerts)
	}

	var bad []string
	s := Serving{TLSCert: "/nowhere", SNICerts: []string{"x"}, CipherSuites: []string{"TLS_X"}, TLSVersion: "1.3"}
	s.validateServing(func(flag, format string, args ...any) { bad = append(bad, flag+": "+fmt.Sprintf(format, args...)) })
	want := []string{
		"tls-cert-file: missing filename for serving cert", "tls-cert-file: stat /nowhere", "tls-sni-cert-key: \"x\": expected comma separated",
		"tls-cipher-suites: Cipher suite TLS_X not supported or doesn't exist", `tls-min-version: unknown tls version "1.3"`,
	}
	for i, w := range want {
		if i >= len(bad) || !strings.HasPrefix(bad[i], w) {
			t.Errorf("%q, want %q", bad, w)
			break
		}
	}
	good := Serving{CipherSuites: []string{"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, TLSVersion: "VersionTLS13"}
	if ids, err := good.Ciphers(); err != nil || len(ids) != 2 || good.MinVersion() != tls.VersionTLS13 || (&Serving{}).MinVersion() != tls.VersionTLS12 {
		t.Errorf("%v, %v", ids, err)
	}
}
