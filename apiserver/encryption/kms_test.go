package encryption_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"

	"sagong/apiserver/encryption"
)

// plugin is a KMS that turns bytes by its key.
type plugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer
	mu       sync.Mutex
	key      byte
	sick     string
	decrypts int
}

func (p *plugin) Status(context.Context, *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sick != "" {
		return &kmsapi.StatusResponse{Healthz: p.sick, Version: "v2", KeyId: "k"}, nil
	}
	return &kmsapi.StatusResponse{Healthz: "ok", Version: "v2", KeyId: string('A' + p.key)}, nil
}

func (p *plugin) Encrypt(_ context.Context, r *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := bytes.Clone(r.Plaintext)
	for i := range out {
		out[i] += p.key + 1
	}
	return &kmsapi.EncryptResponse{Ciphertext: out, KeyId: string('A' + p.key), Annotations: map[string][]byte{"version.kms.example": []byte("1")}}, nil
}

func (p *plugin) Decrypt(_ context.Context, r *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decrypts++
	if string(r.Annotations["version.kms.example"]) != "1" || r.Uid == "" {
		return nil, errors.New("annotations are lost")
	}
	out := bytes.Clone(r.Ciphertext)
	for i := range out {
		out[i] -= r.KeyId[0] - 'A' + 1
	}
	return &kmsapi.DecryptResponse{Plaintext: out}, nil
}

func (p *plugin) set(key byte, sick string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.sick = key, sick
}

func TestKMS(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "kms.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{}
	srv := grpc.NewServer()
	kmsapi.RegisterKeyManagementServiceServer(srv, p)
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Stop(); wg.Wait() })
	config := resources("secrets", "{kms: {apiVersion: v2, name: vault, timeout: 20s, endpoint: 'unix://"+socket+"'}}", "{identity: {}}")

	c := newCipher(t, config, "")
	sealed := seal(t, c)
	if !bytes.HasPrefix(sealed, []byte("k8s:enc:kms:v2:vault:")) {
		t.Errorf("sealed value begins with %q", sealed[:30])
	}
	for range 5 {
		opens(t, "kms", c, seal(t, c), false)
	}
	if p.decrypts != 0 {
		t.Errorf("its own seed was asked for %d times", p.decrypts)
	}
	again := newCipher(t, config, "")
	for range 5 {
		opens(t, "another server", again, sealed, false)
	}
	if p.decrypts != 1 {
		t.Errorf("the seed was asked for %d times", p.decrypts)
	}
	if _, _, err := again.Open("/registry/secrets/default/t", sealed); err == nil {
		t.Error("opened in another object's place")
	}
	p.set(1, "")
	if err := again.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	opens(t, "under the plugin's old key", again, sealed, true)
	opens(t, "under the plugin's new key", again, seal(t, again), false)
	p.set(1, "locked")
	if err := again.Look(t.Context()); err == nil || !strings.Contains(again.Healthy().Error(), "unexpected healthz status: locked") {
		t.Errorf("of a plugin that is sick: %v", again.Healthy())
	}
	opens(t, "while the plugin is sick", again, seal(t, again), false)
	again.Later(3*time.Minute + 1)
	if _, err := again.Seal(secretKey, value); err == nil || !strings.Contains(err.Error(), "has not answered since") {
		t.Errorf("sealed long after the plugin fell sick: %v", err)
	}
	opens(t, "long after", again, sealed, true)
	if _, err := encryption.New(t.Context(), write(t, config), ""); err == nil {
		t.Error("a plugin that is sick is taken")
	}
}
