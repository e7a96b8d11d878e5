package encryption_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	kmsapi "k8s.io/kms/apis/v2"

	"sagong/apiserver/encryption"
)

// faulty is a plugin that answers nothing for as long as it is told to, or names
// another key than it seals with.
type faulty struct {
	plugin
	hang   bool
	naming string
}

func (p *faulty) Status(ctx context.Context, r *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	p.mu.Lock()
	hang, naming := p.hang, p.naming
	p.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if naming != "" {
		return &kmsapi.StatusResponse{Healthz: "ok", Version: "v2", KeyId: naming}, nil
	}
	return p.plugin.Status(ctx, r)
}

func (p *faulty) fault(hang bool, naming string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hang, p.naming = hang, naming
}

// What a plugin does wrong keeps nobody from what is sealed already, and nothing
// is sealed with what it has not vouched for.
func TestKMSFaults(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "kms.sock")
	config := resources("secrets", "{kms: {apiVersion: v2, name: vault, timeout: 200ms, endpoint: 'unix://"+socket+"'}}", "{identity: {}}")
	if _, err := encryption.New(t.Context(), write(t, config), ""); err == nil || !strings.Contains(err.Error(), "kmsv2 Provider vault is not healthy") {
		t.Errorf("started without its plugin: %v", err)
	}

	p := &faulty{}
	serve := func() (stop func()) {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer()
		kmsapi.RegisterKeyManagementServiceServer(srv, p)
		var wg sync.WaitGroup
		wg.Go(func() { _ = srv.Serve(l) })
		return func() { srv.Stop(); wg.Wait() }
	}
	stop := serve()
	// A machine at its limit may take longer than 200 ms for a call that is well.
	patient := strings.Replace(config, "200ms", "20s", 1)
	other := newCipher(t, patient, "")
	foreign := seal(t, other)

	p.fault(true, "")
	if _, err := encryption.New(t.Context(), write(t, config), ""); err == nil || !strings.Contains(err.Error(), "kmsv2 Provider vault is not healthy") {
		t.Errorf("started with a plugin that does not answer: %v", err)
	}
	p.fault(false, "")
	c := newCipher(t, patient, "")
	sealed := seal(t, c)

	p.fault(false, "other")
	if err := c.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "encrypts with another key than its status names") {
		t.Errorf("of a plugin that names another key: %v", err)
	}
	opens(t, "while it names another key", c, seal(t, c), false)

	p.fault(false, "")
	stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody comes: no need to wait for it
	if err := c.Look(ctx); err == nil || c.Healthy() == nil {
		t.Error("a plugin that is gone is well")
	}
	opens(t, "without the plugin", c, seal(t, c), false)
	opens(t, "sealed before", c, sealed, false)

	stop = serve()
	defer stop()
	for c.Look(t.Context()) != nil { // the first may meet what is left of the old connection
		if t.Context().Err() != nil {
			t.Fatal(c.Healthy())
		}
	}
	if err := c.Healthy(); err != nil {
		t.Errorf("of a plugin that came back: %v", err)
	}
	opens(t, "by the seed of another server", c, foreign, false)
}
