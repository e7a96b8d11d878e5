package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// noise is content that does not compress.
func noise(seed uint64, n int) string {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return string(b)
}

func TestPull(t *testing.T) {
	r := registry(t, registryOptions{})
	base := archive(t, dir("etc", 0o755), reg("etc/a", "one"), dir("tmp", 0o1777))
	top := archive(t, reg("etc/b", "two"), reg("tmp/x", "x"))
	for _, c := range []struct {
		name string
		c    compression.Compression
	}{{"gzip", compression.GZip}, {"zstd", compression.ZStd}, {"none", compression.None}} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			want := testImage(t, c.c, base, top)
			r.push(t, "dir/app:"+c.name, want)
			s := open(t, t.TempDir())
			ref := r.host + "/dir/app:" + c.name
			if _, err := s.Get(ref); !errors.Is(err, ErrNotFound) {
				t.Errorf("Get before the pull: %v", err)
			}
			var last Progress
			got, err := s.Pull(context.Background(), ref, PullOptions{Progress: func(p Progress) { last = p }})
			if err != nil {
				t.Fatal(err)
			}
			if last.Layers != 2 || last.LayersDone != 2 || last.BytesDone != last.Bytes || last.Bytes == 0 {
				t.Errorf("the last progress is %+v", last)
			}
			digest, _ := want.Digest()
			if got.ID != imageID(t, want) || !reflect.DeepEqual(got.RepoTags, []string{ref}) || !reflect.DeepEqual(got.RepoDigests, []string{r.host + "/dir/app@" + digest.String()}) {
				t.Errorf("image is %+v", got)
			}
			wantConfig := Config{Entrypoint: []string{"/run"}, Cmd: []string{"--fast"}, Env: []string{"A=1"}, User: "7:8", WorkingDir: "/w",
				ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/data"}, StopSignal: "SIGQUIT", Labels: map[string]string{"k": "v"}}
			if !reflect.DeepEqual(got.Config, wantConfig) {
				t.Errorf("configuration is %+v", got.Config)
			}
			lower := got.LowerDirs()
			if len(lower) != 2 {
				t.Fatalf("lower directories are %v", lower)
			}
			for n, f := range []string{"etc/b", "etc/a"} {
				if _, err := os.Stat(filepath.Join(lower[n], f)); err != nil {
					t.Error(err)
				}
			}
			// The upper layer has no entry for tmp; it must not lose its mode.
			if info, err := os.Stat(filepath.Join(lower[0], "tmp")); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
				t.Errorf("tmp has the mode %v, %v", info.Mode(), err)
			}
			for _, name := range []string{ref, got.ID, strings.TrimPrefix(got.ID, "sha256:"), got.ID[7:19], got.RepoDigests[0]} {
				if i, err := s.Get(name); err != nil || i.ID != got.ID {
					t.Errorf("Get(%q) gives %v, %v", name, i, err)
				}
			}
			// All of that outlives the process.
			s.Close()
			s = open(t, s.dir)
			if again, err := s.Get(ref); err != nil || !reflect.DeepEqual(again, got) {
				t.Errorf("after a restart: %+v, %v", again, err)
			}
		})
	}
}

func TestPullAgainAsksForTheManifestOnly(t *testing.T) {
	r := registry(t, registryOptions{})
	r.push(t, "app:1", testImage(t, compression.GZip, archive(t, reg("a", "a"))))
	p := r.proxy(t)
	s := open(t, t.TempDir())
	first := pull(t, s, p.host+"/app:1")
	blobs := p.count("/blobs/")
	if second := pull(t, s, p.host+"/app:1"); second.ID != first.ID {
		t.Errorf("the second pull gives %s", second.ID)
	}
	if n := p.count("/blobs/"); n != blobs {
		t.Errorf("%d blobs were fetched again", n-blobs)
	}
	// The tag moves; the old image stays, without it.
	r.push(t, "app:1", testImage(t, compression.GZip, archive(t, reg("b", "b"))))
	moved := pull(t, s, p.host+"/app:1")
	if moved.ID == first.ID {
		t.Error("the old image was given")
	}
	old, err := s.Get(first.ID)
	if err != nil || len(old.RepoTags) != 0 || len(old.RepoDigests) != 1 {
		t.Errorf("the old image is %+v, %v", old, err)
	}
	byDigest := pull(t, s, old.RepoDigests[0])
	if byDigest.ID != first.ID {
		t.Errorf("pulled by its digest it is %s", byDigest.ID)
	}
}

func TestPullOverTLSWithCredentials(t *testing.T) {
	user := &Credential{Username: "ann", Password: "secret"}
	r := registry(t, registryOptions{tls: true, user: user})
	want := testImage(t, compression.GZip, archive(t, reg("a", "a")))
	r.push(t, "private/app:1", want)
	ref := r.host + "/private/app:1"
	ctx := context.Background()
	trusting := func(o *Options) {
		o.Registries = map[string]Registry{r.host: {Endpoint: Endpoint{CA: r.ca}}}
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		creds  []Credential
		want   error
	}{
		{"unknown CA", func(*Options) {}, []Credential{*user}, ErrUnreachable},
		{"anonymous", trusting, nil, ErrUnauthorized},
		{"wrong password", trusting, []Credential{{Username: "ann", Password: "guess"}}, ErrUnauthorized},
		{"right password", trusting, []Credential{*user}, nil},
		{"the second of two", trusting, []Credential{{Username: "bob", Password: "x"}, *user}, nil},
		{"verification off", func(o *Options) {
			o.Registries = map[string]Registry{r.host: {Endpoint: Endpoint{SkipVerify: true}}}
		}, []Credential{*user}, nil},
		{"credential of the node", func(o *Options) {
			o.Registries = map[string]Registry{r.host: {Endpoint: Endpoint{CA: r.ca, Credential: user}}}
		}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir(), c.change)
			i, err := s.Pull(ctx, ref, PullOptions{Credentials: c.creds})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("error is %v, want %v", err, c.want)
			}
			if err == nil && i.ID != imageID(t, want) {
				t.Errorf("image is %s", i.ID)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestPullWithToken(t *testing.T) {
	r := registry(t, registryOptions{})
	r.push(t, "app:1", testImage(t, compression.GZip, archive(t, reg("a", "a"))))
	p := r.proxy(t)
	p.request = func(w http.ResponseWriter, q *http.Request) bool {
		if q.URL.Path == "/token" {
			user, pass, _ := q.BasicAuth()
			if user != "ann" || pass != "secret" || q.URL.Query().Get("scope") != "repository:app:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			json.NewEncoder(w).Encode(map[string]string{"token": base64.StdEncoding.EncodeToString([]byte("ok"))})
			return true
		}
		if q.Header.Get("Authorization") != "Bearer "+base64.StdEncoding.EncodeToString([]byte("ok")) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope="repository:app:pull"`, p.host))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
	s := open(t, t.TempDir())
	if _, err := s.Pull(context.Background(), p.host+"/app:1", PullOptions{}); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("anonymous: %v", err)
	}
	pull(t, s, p.host+"/app:1", Credential{Username: "ann", Password: "secret"})
}

func TestPullFailures(t *testing.T) {
	r := registry(t, registryOptions{})
	r.push(t, "app:1", testImage(t, compression.GZip, archive(t, reg("a", "a"))))
	r.push(t, "foreign:1", configure(t, testImage(t, compression.GZip), "linux", "s390x"))
	s := open(t, t.TempDir())
	for _, c := range []struct {
		ref  string
		want error
	}{
		{r.host + "/app:2", ErrNotFound},
		{r.host + "/nothing:1", ErrNotFound},
		{r.host + "/app@sha256:" + strings.Repeat("0", 64), ErrNotFound},
		{"127.0.0.1:1/app:1", ErrUnreachable},
		{"UPPER", ErrInvalidName},
		{"a b", ErrInvalidName},
		{"", ErrInvalidName},
		{r.host + "/foreign:1", ErrNoPlatform},
	} {
		_, err := s.Pull(context.Background(), c.ref, PullOptions{})
		if !errors.Is(err, c.want) {
			t.Errorf("Pull(%q): %v, want %v", c.ref, err, c.want)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("images after failures: %v, %v", list, err)
	}
}

func TestPlainHTTPIsForLoopbackOnly(t *testing.T) {
	for host, want := range map[string]bool{"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "10.0.0.1": false, "registry.local": false, "example.com": false} {
		e := Endpoint{URL: host}
		if strings.Contains(host, ":") {
			e.URL = "[" + host + "]"
		}
		_, _, plain, err := transportFor(e)
		if err != nil || plain != want {
			t.Errorf("%s: plain HTTP %v, want %v (%v)", host, plain, want, err)
		}
	}
	g := &guard{plain: false}
	q, _ := http.NewRequest("GET", "http://10.0.0.1/v2/", nil)
	if _, err := g.RoundTrip(q); err == nil {
		t.Error("plain HTTP went through")
	}
}

func TestPullChoosesThePlatform(t *testing.T) {
	r := registry(t, registryOptions{})
	add := func(os, arch, variant, body string) mutate.IndexAddendum {
		i := configure(t, testImage(t, compression.GZip, archive(t, reg("who", body))), os, arch)
		return mutate.IndexAddendum{Add: i, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch, Variant: variant}}}
	}
	index := mutate.AppendManifests(empty.Index,
		add("linux", "s390x", "", "z"), add("windows", "amd64", "", "w"), add("linux", "amd64", "v3", "new"),
		add("linux", "amd64", "", "plain"), add("linux", "arm", "v6", "six"), add("linux", "arm", "v7", "seven"), add("unknown", "unknown", "", "attestation"))
	r.pushIndex(t, "multi:1", index)
	top, _ := index.Digest()
	for _, c := range []struct{ arch, variant, want string }{
		{"amd64", "", "plain"}, {"amd64", "v3", "new"}, {"amd64", "v2", "plain"}, {"s390x", "", "z"}, {"arm", "v7", "seven"}, {"arm", "v6", "six"}, {"riscv64", "", ""},
	} {
		s := open(t, t.TempDir(), func(o *Options) { o.Architecture, o.Variant = c.arch, c.variant })
		i, err := s.Pull(context.Background(), r.host+"/multi:1", PullOptions{})
		if c.want == "" {
			if !errors.Is(err, ErrNoPlatform) {
				t.Errorf("%s: %v", c.arch, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", c.arch, c.variant, err)
			continue
		}
		if got, _ := os.ReadFile(filepath.Join(i.LowerDirs()[0], "who")); string(got) != c.want {
			t.Errorf("%s %s: got %q, want %q", c.arch, c.variant, got, c.want)
		}
		if i.RepoDigests[0] != r.host+"/multi@"+top.String() {
			t.Errorf("digest is %s, want that of the index", i.RepoDigests[0])
		}
	}
}

func TestMirrors(t *testing.T) {
	good, lacking := registry(t, registryOptions{}), registry(t, registryOptions{})
	want := testImage(t, compression.GZip, archive(t, reg("a", "a")))
	good.push(t, "library/app:1", want)
	s := open(t, t.TempDir(), func(o *Options) {
		o.Registries = map[string]Registry{"docker.io": {MirrorsOnly: true, Mirrors: []Endpoint{{URL: "http://127.0.0.1:1"}, {URL: "http://" + lacking.host}, {URL: "http://" + good.host}}}}
	})
	if i := pull(t, s, "app:1"); i.ID != imageID(t, want) || i.RepoTags[0] != "docker.io/library/app:1" {
		t.Errorf("image is %+v", i)
	}
	if _, err := s.Pull(context.Background(), "app:2", PullOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an image no mirror has: %v", err)
	}
}

func TestMirrorNeverSeesPullCredentials(t *testing.T) {
	r := registry(t, registryOptions{})
	p := r.proxy(t)
	var seen atomic.Int32
	p.request = func(w http.ResponseWriter, q *http.Request) bool {
		if q.Header.Get("Authorization") != "" {
			seen.Add(1)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	s := open(t, t.TempDir(), func(o *Options) {
		o.Registries = map[string]Registry{"docker.io": {MirrorsOnly: true, Mirrors: []Endpoint{{URL: "http://" + p.host}}}}
	})
	if _, err := s.Pull(context.Background(), "app:1", PullOptions{Credentials: []Credential{{Username: "ann", Password: "secret"}}}); !errors.Is(err, ErrUnauthorized) {
		t.Error(err)
	}
	if seen.Load() != 0 {
		t.Error("the mirror was shown the credentials of the registry")
	}
}

func TestConcurrentPullsShareTheWork(t *testing.T) {
	r := registry(t, registryOptions{})
	shared := archive(t, reg("big", noise(1, 300_000)))
	r.push(t, "a:1", testImage(t, compression.GZip, shared, archive(t, reg("a", "a"))))
	r.push(t, "b:1", testImage(t, compression.GZip, shared, archive(t, reg("b", "b"))))
	p := r.proxy(t)
	gate := make(chan none)
	p.request = func(w http.ResponseWriter, q *http.Request) bool {
		if strings.Contains(q.URL.Path, "/blobs/") {
			<-gate
		}
		return false
	}
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			if _, err := s.Pull(context.Background(), p.host+[]string{"/a:1", "/b:1"}[n%2], PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	close(gate)
	wg.Wait()
	// Two configurations, the shared layer, and a layer each; nothing twice,
	// though both images ask for the shared one at once.
	if n := p.count("/blobs/"); n != 5 {
		t.Errorf("%d blobs were fetched, want 5", n)
	}
}

func TestCancelledPullLeavesNothing(t *testing.T) {
	noLeaks(t)
	r := registry(t, registryOptions{})
	r.push(t, "a:1", testImage(t, compression.GZip, archive(t, reg("big", noise(2, 300_000)))))
	p := r.proxy(t)
	ctx, cancel := context.WithCancel(context.Background())
	p.response = func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/blobs/") {
			cancel()
			<-resp.Request.Context().Done()
		}
		return nil
	}
	s := open(t, t.TempDir())
	if _, err := s.Pull(ctx, p.host+"/a:1", PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	for _, pattern := range []string{"blobs/tmp-*", "layers/*", "tmp-*", "images/*", "blobs/sha256/*"} {
		if left, _ := filepath.Glob(filepath.Join(s.dir, pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	p.mu.Lock()
	p.response = nil
	p.mu.Unlock()
	pull(t, s, p.host+"/a:1")
}

func TestDamagedTransfers(t *testing.T) {
	r := registry(t, registryOptions{})
	i := testImage(t, compression.GZip, archive(t, reg("big", noise(3, 500_000))))
	r.push(t, "a:1", i)
	layers, _ := i.Layers()
	layer, _ := layers[0].Digest()
	isLayer := func(resp *http.Response) bool { return strings.HasSuffix(resp.Request.URL.Path, layer.String()) }
	// cut ends a body early, as a broken connection does.
	cut := func(resp *http.Response, n int64) {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(resp.Body, n), failing{}), resp.Body}
	}
	for _, c := range []struct {
		name   string
		damage func(n int, resp *http.Response)
		want   error
	}{
		{"breaks twice", func(n int, resp *http.Response) {
			if n < 3 {
				cut(resp, 100_000)
			}
		}, nil},
		{"always breaks at once", func(_ int, resp *http.Response) { cut(resp, 0) }, ErrUnreachable},
		{"ends early", func(_ int, resp *http.Response) {
			resp.Body = io.NopCloser(io.LimitReader(resp.Body, 100_000))
			resp.ContentLength = -1
			resp.Header.Del("Content-Length")
			resp.StatusCode = http.StatusOK // it ignores ranges too
		}, io.ErrUnexpectedEOF},
		{"other content", func(_ int, resp *http.Response) {
			resp.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", int(resp.ContentLength))))
		}, ErrCorrupt},
		{"too long", func(_ int, resp *http.Response) {
			resp.Body = io.NopCloser(io.MultiReader(resp.Body, strings.NewReader("more")))
			resp.ContentLength = -1
			resp.Header.Del("Content-Length")
		}, ErrCorrupt},
		{"server error once", func(n int, resp *http.Response) {
			if n == 1 {
				resp.StatusCode = http.StatusBadGateway
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.proxy(t)
			n := 0
			p.response = func(resp *http.Response) error {
				if isLayer(resp) {
					n++
					c.damage(n, resp)
				}
				return nil
			}
			s := open(t, t.TempDir())
			s.retryAfter = 1
			_, err := s.Pull(context.Background(), p.host+"/a:1", PullOptions{})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("error is %v, want %v", err, c.want)
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, "*/tmp-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if err != nil {
				if done, _ := filepath.Glob(filepath.Join(s.dir, "layers/*")); len(done) > 0 {
					t.Errorf("a layer was stored: %v", done)
				}
			}
		})
	}
}

func TestManifestIsAskedForAgain(t *testing.T) {
	r := registry(t, registryOptions{})
	r.push(t, "a:1", testImage(t, compression.GZip, archive(t, reg("a", "a"))))
	p := r.proxy(t)
	bad := 2
	p.request = func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.Contains(q.URL.Path, "/manifests/") || bad == 0 {
			return false
		}
		bad--
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	s := open(t, t.TempDir())
	s.retryAfter = 1
	pull(t, s, p.host+"/a:1")
	bad = 3
	if _, err := s.Pull(context.Background(), p.host+"/a:1", PullOptions{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a registry that is down: %v", err)
	}
}

// failing is a connection that breaks.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestManifestThatLies(t *testing.T) {
	r := registry(t, registryOptions{})
	r.push(t, "a:1", testImage(t, compression.GZip, archive(t, reg("a", "a"))))
	p := r.proxy(t)
	body := `{"schemaVersion":2}`
	p.request = func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.Contains(q.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", typeOCIManifest)
		io.WriteString(w, body)
		return true
	}
	s := open(t, t.TempDir())
	for _, b := range []string{`{`, `{"schemaVersion":1}`, `{"schemaVersion":2}`, `{"schemaVersion":2,"config":{"digest":"sha256:../../x"}}`,
		`{"schemaVersion":2,"config":{"digest":"md5:00"},"layers":[]}`, `[]`, `{"schemaVersion":2,"manifests":[{"digest":"../x","size":1}]}`,
		`{"schemaVersion":2,"config":{"digest":"sha256:` + strings.Repeat("a", 64) + `"},"manifests":[{}]}`} {
		body = b
		if _, err := s.Pull(context.Background(), p.host+"/a:1", PullOptions{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", b, err)
		}
	}
	body = strings.Repeat(" ", 9<<20)
	if _, err := s.Pull(context.Background(), p.host+"/a:1", PullOptions{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a manifest without end: %v", err)
	}
	p.mu.Lock()
	p.request = nil
	p.mu.Unlock()
}
