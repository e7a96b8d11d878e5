package image

import (
	"errors"
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for in, want := range map[string]string{
		"nginx":                                  "docker.io/library/nginx:latest",
		"nginx:1.27":                             "docker.io/library/nginx:1.27",
		"library/nginx":                          "docker.io/library/nginx:latest",
		"docker.io/nginx":                        "docker.io/library/nginx:latest",
		"index.docker.io/nginx":                  "docker.io/library/nginx:latest",
		"grafana/loki":                           "docker.io/grafana/loki:latest",
		"localhost/app":                          "localhost/app:latest",
		"localhost:5000/app":                     "localhost:5000/app:latest",
		"127.0.0.1:5000/a/b:c":                   "127.0.0.1:5000/a/b:c",
		"[::1]:5000/app":                         "[::1]:5000/app:latest",
		"registry.k8s.io/pause:3.10":             "registry.k8s.io/pause:3.10",
		"app@" + digest:                          "docker.io/library/app@" + digest,
		"app:1@" + digest:                        "docker.io/library/app@" + digest,
		"sagong.local/hello:v1":                  "sagong.local/hello:v1",
		"example.com/a__b/c-d.e:V1.0_x":          "example.com/a__b/c-d.e:V1.0_x",
		"":                                       "",
		" ":                                      "",
		"nginx ":                                 "",
		"Nginx":                                  "",
		"nginx:":                                 "",
		"nginx:-x":                               "",
		"/nginx":                                 "",
		"a//b":                                   "",
		"http://example.com/a":                   "",
		"app@sha256:abc":                         "",
		"app@sha512:" + strings.Repeat("a", 128): "",
		strings.Repeat("ab", 32):                 "",
		"a:" + strings.Repeat("x", 129):          "",
		strings.Repeat("a", 300):                 "",
		"../x":                                   "",
	} {
		got, err := ParseReference(in)
		if want == "" {
			if !errors.Is(err, ErrInvalidName) {
				t.Errorf("%q: %v, %v; want it refused", in, got, err)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q: %v, %v; want %s", in, got, err, want)
		}
	}
}

// What was normalised is normal.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"nginx", "a/b:c@sha256:" + strings.Repeat("0", 64), "localhost:5000/x", "[::1]:1/x:y", "A", "x:y:z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidName) {
				t.Errorf("%q: error without its kind: %v", s, err)
			}
			return
		}
		if (r.Tag == "") == (r.Digest == "") || strings.Contains(r.Path, "..") {
			t.Errorf("%q: %+v", s, r)
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %q becomes %+v, %v", s, r, again, err)
		}
	})
}
