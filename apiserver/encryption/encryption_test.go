package encryption_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sagong/apiserver/encryption"
)

const secretKey = "/registry/secrets/default/s"

var value = []byte("k8s\x00 planted value")

func key(fill byte, n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, n))
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// resources is a configuration of one list.
func resources(names string, providers ...string) string {
	return "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [" + names + "]\n  providers: [" + strings.Join(providers, ", ") + "]\n"
}

func provider(kind string, keys ...string) string {
	var list []string
	for i, k := range keys {
		name, secret, ok := strings.Cut(k, ":")
		if !ok {
			name, secret = string(rune('a'+i)), k
		}
		list = append(list, "{name: "+name+", secret: \""+secret+"\"}")
	}
	return "{" + kind + ": {keys: [" + strings.Join(list, ", ") + "]}}"
}

func newCipher(t *testing.T, config, keyFile string) *encryption.Cipher {
	t.Helper()
	if config != "" {
		config = write(t, config)
	}
	c, err := encryption.New(t.Context(), config, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func seal(t *testing.T, c *encryption.Cipher) []byte {
	t.Helper()
	sealed, err := c.Seal(secretKey, value)
	if err != nil || bytes.Contains(sealed, value[4:]) {
		t.Fatalf("sealed: %q, %v", sealed, err)
	}
	return sealed
}

func opens(t *testing.T, what string, c *encryption.Cipher, sealed []byte, wantStale bool) {
	t.Helper()
	got, stale, err := c.Open(secretKey, sealed)
	if err != nil || !bytes.Equal(got, value) || stale != wantStale {
		t.Errorf("%s: %q, stale %t, %v", what, got, stale, err)
	}
}

func TestProviders(t *testing.T) {
	for kind, x := range map[string]struct {
		keys  []string
		bound bool // to the object's key
	}{
		"aesgcm":    {[]string{key(1, 16), key(2, 24), key(3, 32)}, true},
		"aescbc":    {[]string{key(1, 32), key(2, 32)}, false},
		"secretbox": {[]string{key(1, 32), key(2, 32)}, false},
	} {
		for i, k := range x.keys {
			old := newCipher(t, resources("secrets", provider(kind, "old:"+k), "{identity: {}}"), "")
			sealed := seal(t, old)
			if want := "k8s:enc:" + kind + ":v1:old:"; !bytes.HasPrefix(sealed, []byte(want)) {
				t.Errorf("%s: sealed value begins with %q, want %q", kind, sealed[:20], want)
			}
			opens(t, kind, old, sealed, false)
			opens(t, kind+", in clear", old, value, true)
			turned := newCipher(t, resources("secrets", provider(kind, "new:"+x.keys[(i+1)%len(x.keys)], "old:"+k)), "")
			opens(t, kind+", rotated", turned, sealed, true)
			back := newCipher(t, resources("secrets", "{identity: {}}", provider(kind, "old:"+k)), "")
			opens(t, kind+", going back to clear", back, sealed, true)
			if back.Covers(secretKey) {
				t.Errorf("%s: identity first, and it is sealed", kind)
			}
			for n := range sealed {
				bad := bytes.Clone(sealed)
				bad[n] ^= 0x40
				if got, _, err := old.Open(secretKey, bad); err == nil && bytes.Equal(got, value) && n >= len("k8s:enc:") {
					t.Errorf("%s: byte %d changed, and it opens", kind, n)
				}
				if _, _, err := old.Open(secretKey, sealed[:n]); err == nil && n >= len("k8s:enc:") {
					t.Errorf("%s: cut to %d bytes, and it opens", kind, n)
				}
			}
			if _, _, err := old.Open("/registry/secrets/other/s", sealed); (err == nil) == x.bound {
				t.Errorf("%s: opened in another object's place: %v", kind, err)
			}
			if _, _, err := turned.Open(secretKey, value); err == nil || !strings.Contains(err.Error(), "no provider identity") {
				t.Errorf("%s: clear text without identity: %v", kind, err)
			}
			other := newCipher(t, resources("configmaps", provider(kind, x.keys...)), "")
			if _, _, err := other.Open(secretKey, sealed); err == nil || !strings.Contains(err.Error(), "not listed any more") {
				t.Errorf("%s: no key listed for secrets: %v", kind, err)
			}
		}
	}
}

// Values that upstream's implementation has sealed.
func TestUpstreamValues(t *testing.T) {
	c := newCipher(t, resources("secrets", provider("aescbc", "key1:"+base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")))), "")
	// IV of zeros; AES-256-CBC of "hello" padded to a block, by openssl.
	ct, err := base64.StdEncoding.DecodeString("pZwJZBLuy3mDACEQT4YTBw==")
	if err != nil {
		t.Fatal(err)
	}
	sealed := append(append([]byte("k8s:enc:aescbc:v1:key1:"), make([]byte, 16)...), ct...)
	if got, _, err := c.Open(secretKey, sealed); string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRulesAndWildcards(t *testing.T) {
	c := newCipher(t, resources("events", "{identity: {}}")+
		"- resources: [configmaps, pandas.awesome.bears.example]\n  providers: ["+provider("aescbc", "one:"+key(1, 32))+"]\n"+
		"- resources: ['*.apps']\n  providers: ["+provider("aescbc", "two:"+key(2, 32))+"]\n"+
		"- resources: ['*.']\n  providers: ["+provider("aescbc", "three:"+key(3, 32))+"]\n"+
		"- resources: ['*.*']\n  providers: ["+provider("aescbc", "four:"+key(4, 32))+"]\n", "")
	for key, want := range map[string]string{
		"/registry/events/ns/a":                          "",
		"/registry/configmaps/ns/a":                      "one",
		"/registry/pandas.awesome.bears.example/a":       "one",
		"/registry/deployments.apps/ns/a":                "two",
		"/registry/secrets/ns/a":                         "three",
		"/registry/roles.rbac.authorization.k8s.io/ns/a": "four",
		"/registry/pandas.other.example/ns/a":            "four",
	} {
		sealed, err := c.Seal(key, value)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if rest, ok := bytes.CutPrefix(sealed, []byte("k8s:enc:aescbc:v1:")); ok {
			got = string(rest[:bytes.IndexByte(rest, ':')])
		}
		if got != want || c.Covers(key) != (want != "") {
			t.Errorf("%s is sealed by %q, want %q", key, got, want)
		}
	}
}

func TestBadConfigurations(t *testing.T) {
	for text, want := range map[string]string{
		"": "Object 'Kind' is missing",
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n":                         "it is a AuthorizationConfiguration",
		resources("secrets", "{identity: {}}") + "unknown: 1\n":                                              `unknown field "unknown"`,
		resources("secrets", provider("aescbc", "YQ==")):                                                     "resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 1, expected one of [16 24 32]",
		resources("secrets, '*.'", "{identity: {}}"):                                                         "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed",
		resources("secrets", "{}"):                                                                           "provider does not contain any of the expected providers",
		resources("secrets", "{kms: {name: a, endpoint: 'unix:///x'}}"):                                      "KMS provider a: apiVersion v1 was removed",
		resources("secrets", "{kms: {apiVersion: v2, name: a, endpoint: 'http://x'}}"):                       "unsupported scheme \"http\" for KMS provider, only unix is supported",
		resources("secrets", "{kms: {apiVersion: v2, name: a, timeout: 1ms, endpoint: 'unix:///does/not'}}"): "kmsv2 Provider a is not healthy",
	} {
		if _, err := encryption.New(t.Context(), write(t, text), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pki", "encryption-keys.json")
	c := newCipher(t, "", path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
	if !c.Covers(secretKey) || c.Covers("/registry/configmaps/ns/a") || c.Covers("/registry/pods/ns/a") {
		t.Error("by default Secrets are sealed and nothing else")
	}
	first := seal(t, c)
	opens(t, "first", c, first, false)
	opens(t, "of before", c, value, true)
	if _, _, err := c.Open("/registry/secrets/default/t", first); err == nil {
		t.Error("opened in another object's place")
	}
	// A rewrite that fails loses nothing; the key it was for stays.
	failed := errors.New("disk is full")
	if err := c.Rotate(t.Context(), true, func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("rotated: %v", err)
	}
	opens(t, "after a rewrite that failed", c, first, true)
	var second []byte
	if err := c.Rotate(t.Context(), false, func(context.Context) error { second = seal(t, c); return nil }); err != nil {
		t.Fatal(err)
	}
	again := newCipher(t, "", path)
	opens(t, "opened again, first", again, first, true)
	opens(t, "opened again, second", again, second, false)
	// A configuration that somebody gives later still reads what was there.
	configured := newCipher(t, resources("secrets", provider("secretbox", key(1, 32)), "{identity: {}}"), path)
	opens(t, "with a configuration", configured, second, true)
	if err := configured.Rotate(t.Context(), false, nil); err == nil || !strings.Contains(err.Error(), "--encryption-provider-config is in use") {
		t.Errorf("rotated: %v", err)
	}
	if err := c.Rotate(t.Context(), true, func(context.Context) error { return nil }); err != nil || c.Keys() != 1 {
		t.Errorf("dropped: %v, %d keys left", err, c.Keys())
	}
	if _, _, err := newCipher(t, "", path).Open(secretKey, second); err == nil || !strings.Contains(err.Error(), "restore the file of that time") {
		t.Errorf("sealed by a key that was dropped: %v", err)
	}
	for _, damaged := range []string{"", "{}", `{"keys":[{"name":"x","secret":"YQ=="}]}`} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := encryption.New(t.Context(), "", path); err == nil {
			t.Errorf("key file %q is taken", damaged)
		}
	}
}

func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "keys")
	own, err := encryption.New(f.Context(), "", path)
	if err != nil {
		f.Fatal(err)
	}
	config := filepath.Join(f.TempDir(), "config")
	text := resources("secrets", provider("aescbc", key(1, 32)), provider("aesgcm", key(1, 32)), provider("secretbox", key(1, 32)))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	c, err := encryption.New(f.Context(), config, path)
	if err != nil {
		f.Fatal(err)
	}
	for _, x := range []*encryption.Cipher{own, c} {
		sealed, err := x.Seal(secretKey, value)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed)
	}
	f.Add([]byte("k8s:enc:aesgcm:v1:a:"))
	f.Add([]byte("k8s:enc:secretbox:v1:a:0"))
	f.Fuzz(func(t *testing.T, stored []byte) {
		_, _, _ = c.Open(secretKey, stored)
	})
}

func BenchmarkSeal(b *testing.B) {
	c, err := encryption.New(b.Context(), "", filepath.Join(b.TempDir(), "keys"))
	if err != nil {
		b.Fatal(err)
	}
	long := bytes.Repeat(value, 130)
	b.Run("secret", func(b *testing.B) {
		for b.Loop() {
			_, _ = c.Seal(secretKey, long)
		}
	})
	b.Run("pod", func(b *testing.B) {
		for b.Loop() {
			c.Covers("/registry/pods/default/a")
		}
	})
}
