package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
)

// testRegistry is a real registry of this test's own.
type testRegistry struct {
	host string // 127.0.0.1:port
	ca   []byte
	user *Credential
}

type registryOptions struct {
	tls  bool
	user *Credential
}

// registry starts Debian's docker-registry on a loopback port.
func registry(t testing.TB, o registryOptions) *testRegistry {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatal("this test needs a real registry: apt-get install docker-registry")
	}
	dir := t.TempDir()
	r := &testRegistry{user: o.user}
	config := fmt.Sprintf("version: 0.1\nlog: {level: info, formatter: text}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n", filepath.Join(dir, "data"))
	if o.tls {
		cert, key := testCertificate(t)
		r.ca = cert
		write(t, filepath.Join(dir, "cert.pem"), cert)
		write(t, filepath.Join(dir, "key.pem"), key)
		config += fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	}
	if o.user != nil {
		hash, err := bcrypt.GenerateFromPassword([]byte(o.user.Password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "htpasswd"), []byte(o.user.Username+":"+string(hash)+"\n"))
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", filepath.Join(dir, "htpasswd"))
	}
	write(t, filepath.Join(dir, "config.yml"), []byte(config))
	cmd := exec.Command(bin, "serve", filepath.Join(dir, "config.yml"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	runtime.LockOSThread() // Pdeathsig is about the thread that starts it
	err = cmd.Start()
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	port := make(chan string, 1)
	read := make(chan none)
	var seen bytes.Buffer
	go func() {
		defer close(read)
		listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
		for in := bufio.NewScanner(logs); in.Scan(); {
			fmt.Fprintln(&seen, in.Text())
			if m := listening.FindStringSubmatch(in.Text()); m != nil {
				port <- m[1]
			}
		}
		close(port)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
		if t.Failed() && testing.Verbose() {
			t.Logf("the registry said:\n%s", seen.String())
		}
	})
	host, ok := <-port
	if !ok {
		t.Fatalf("the registry did not start:\n%s", seen.String())
	}
	r.host = host
	return r
}

// noLeaks checks, after everything else of the test was cleaned up, that no
// goroutine of it is left.
func noLeaks(t testing.TB) {
	now := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, now) })
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// testCertificate makes a certificate that is its own CA.
func testCertificate(t testing.TB) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})
}

// push stores an image in the registry.
func (r *testRegistry) push(t testing.TB, ref string, i v1.Image) {
	t.Helper()
	n, opts := r.remote(t, ref)
	if err := remote.Write(n, i, opts...); err != nil {
		t.Fatal(err)
	}
}

func (r *testRegistry) pushIndex(t testing.TB, ref string, i v1.ImageIndex) {
	t.Helper()
	n, opts := r.remote(t, ref)
	if err := remote.WriteIndex(n, i, opts...); err != nil {
		t.Fatal(err)
	}
}

func (r *testRegistry) remote(t testing.TB, ref string) (name.Reference, []remote.Option) {
	t.Helper()
	n, err := name.ParseReference(r.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	tr, _, _, err := transportFor(Endpoint{URL: r.host, CA: r.ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	opts := []remote.Option{remote.WithTransport(tr)}
	if r.user != nil {
		opts = append(opts, remote.WithAuth(&authn.Basic{Username: r.user.Username, Password: r.user.Password}))
	}
	return n, opts
}

// file is one entry of a test's layer.
type file struct {
	tar.Header
	body string
}

func reg(name, body string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

func dir(name string, mode int64) file {
	return file{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, ""}
}

func symlink(name, to string) file {
	return file{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, ""}
}

func hardlink(name, to string) file {
	return file{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}, ""}
}

// archive makes a tar archive.
func archive(t testing.TB, list ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range list {
		h := f.Header
		h.Size = int64(len(f.body))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 0)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// testImage makes an image with these layers.
func testImage(t testing.TB, c compression.Compression, layers ...[]byte) v1.Image {
	t.Helper()
	i := empty.Image
	for _, data := range layers {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, tarball.WithCompression(c))
		if err != nil {
			t.Fatal(err)
		}
		if i, err = mutate.AppendLayers(i, l); err != nil {
			t.Fatal(err)
		}
	}
	return configure(t, i, "linux", runtime.GOARCH)
}

func configure(t testing.TB, i v1.Image, os, arch string) v1.Image {
	t.Helper()
	c, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = os, arch
	c.Config = v1.Config{Entrypoint: []string{"/run"}, Cmd: []string{"--fast"}, Env: []string{"A=1"}, User: "7:8", WorkingDir: "/w",
		ExposedPorts: map[string]struct{}{"80/tcp": {}}, Volumes: map[string]struct{}{"/data": {}}, StopSignal: "SIGQUIT", Labels: map[string]string{"k": "v"}}
	if i, err = mutate.ConfigFile(i, c); err != nil {
		t.Fatal(err)
	}
	return i
}

func imageID(t testing.TB, i v1.Image) string {
	t.Helper()
	h, err := i.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// proxy stands between a store and a registry and lets a test disturb them.
type proxy struct {
	host string
	mu   sync.Mutex
	// request, if set, may answer itself and return true.
	request func(w http.ResponseWriter, r *http.Request) bool
	// response, if set, may change what the registry answered.
	response func(*http.Response) error
	asked    []string
}

func (r *testRegistry) proxy(t testing.TB) *proxy {
	t.Helper()
	p := new(proxy)
	tr := &http.Transport{}
	back := &httputil.ReverseProxy{
		Transport: tr,
		ErrorLog:  log.New(io.Discard, "", 0),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: r.host})
			pr.Out.Host = pr.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			p.mu.Lock()
			f := p.response
			p.mu.Unlock()
			if f != nil {
				return f(resp)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.URL.Path)
		f := p.request
		p.mu.Unlock()
		if f == nil || !f(w, r) {
			back.ServeHTTP(w, r)
		}
	})}
	done := make(chan none)
	go func() { srv.Serve(l); close(done) }()
	t.Cleanup(func() { srv.Close(); <-done; tr.CloseIdleConnections() })
	p.host = l.Addr().String()
	return p
}

// count says how often something was asked for.
func (p *proxy) count(part string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, a := range p.asked {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func pull(t testing.TB, s *Store, ref string, creds ...Credential) *Image {
	t.Helper()
	i, err := s.Pull(context.Background(), ref, PullOptions{Credentials: creds})
	if err != nil {
		t.Fatal(err)
	}
	return i
}
