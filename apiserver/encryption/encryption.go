// Package encryption seals objects before they are stored, as an
// EncryptionConfiguration of upstream's says, or with a key file of the
// cluster's own: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
//
// What upstream has sealed can be read here and the reverse: prefix, layout and
// authenticated data are the same. The store asks for it on the way to the disk,
// so that typed objects and lists in memory cost nothing.
package encryption

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"

	"sagong/apiserver/configfile"
)

// sealed is what all sealed values begin with.
const sealedPrefix = "k8s:enc:"

// provider seals and opens values. aad is authenticated with them where the
// method allows it: the key in the store, so that no value can take another's
// place.
type provider interface {
	// prefix is what values sealed by this provider begin with; seal adds it.
	prefix() []byte
	seal(aad, value []byte) ([]byte, error)
	open(aad, sealed []byte) (value []byte, stale bool, err error)
}

// Cipher is a store.Cipher. The zero value covers nothing.
type Cipher struct {
	keys *KeyFile
	// now is what the configuration says; replaced as a whole.
	now    atomic.Pointer[configured]
	turned chan struct{} // has one while Run has not seen the latest now
}

// configured is what a configuration says.
type configured struct {
	rules []rule
	// extra opens what was sealed before a configuration was given.
	extra []provider
	kms   []*kms
	data  []byte // the file

	byTopic sync.Map // "secrets" -> []provider
}

// rule is one resource of a configuration.
type rule struct {
	resource  schema.GroupResource
	providers []provider
}

// New makes the cipher of a configuration file; "" means that Secrets are sealed
// with the keys in keyFile, which is made when it is missing. Run must run for
// a configuration with KMS providers to notice that their keys change.
func New(ctx context.Context, config, keyFile string) (*Cipher, error) {
	keys, err := loadKeys(keyFile, config == "")
	if err != nil {
		return nil, err
	}
	c := &Cipher{keys: keys, turned: make(chan struct{}, 1)}
	if config == "" {
		c.now.Store(&configured{rules: []rule{{schema.GroupResource{Resource: "secrets"}, []provider{keys, identity{}}}}, extra: c.extra()})
		return c, nil
	}
	data, err := os.ReadFile(config)
	if err != nil {
		return nil, fmt.Errorf("cannot read --encryption-provider-config: %w", err)
	}
	now, err := c.configure(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("cannot use --encryption-provider-config %s: %w", config, err)
	}
	c.now.Store(now)
	return c, nil
}

func (c *Cipher) extra() []provider {
	if c.keys == nil {
		return nil
	}
	return []provider{c.keys}
}

// Config is the configuration file that is in force; nil without one.
func (c *Cipher) Config() []byte { return c.state().data }

// Reload seals and opens by another configuration from now on; when it cannot be
// used, what there was stays. All that is stored must be sealed anew before the
// keys of before are given up: until then they are not needed, as values are
// opened when the store is, and after a restart the new configuration must do.
func (c *Cipher) Reload(ctx context.Context, data []byte) error {
	now, err := c.configure(ctx, data)
	if err != nil {
		return err
	}
	c.now.Store(now)
	select {
	case c.turned <- struct{}{}:
	default:
	}
	return nil
}

// state is what the configuration in force says.
func (c *Cipher) state() *configured {
	if now := c.now.Load(); now != nil {
		return now
	}
	return &configured{}
}

// configure reads a configuration.
func (c *Cipher) configure(ctx context.Context, data []byte) (*configured, error) {
	file, err := configfile.Decode[*apiserver.EncryptionConfiguration](data)
	if err != nil {
		return nil, err
	}
	for _, r := range file.Resources {
		for _, p := range r.Providers {
			if p.KMS != nil && p.KMS.APIVersion != "v2" {
				return nil, fmt.Errorf("KMS provider %s: apiVersion %s was removed from Kubernetes; v2 is supported", p.KMS.Name, p.KMS.APIVersion)
			}
		}
	}
	if err := validation.ValidateEncryptionConfiguration(file, false).ToAggregate(); err != nil {
		return nil, err
	}
	now := &configured{extra: c.extra(), data: data}
	for _, r := range file.Resources {
		providers, err := now.providers(ctx, r.Providers)
		if err != nil {
			now.close()
			return nil, err
		}
		for _, name := range r.Resources {
			now.rules = append(now.rules, rule{schema.ParseGroupResource(name), providers})
		}
	}
	return now, nil
}

func (c *configured) providers(ctx context.Context, configs []apiserver.ProviderConfiguration) (all []provider, err error) {
	add := func(kind string, keys []apiserver.Key, make func(prefix string, secret []byte) (provider, error)) error {
		for _, k := range keys {
			secret, err := base64.StdEncoding.DecodeString(k.Secret)
			if err != nil {
				return fmt.Errorf("key %s: %w", k.Name, err)
			}
			p, err := make(sealedPrefix+kind+":v1:"+k.Name+":", secret)
			if err != nil {
				return fmt.Errorf("key %s: %w", k.Name, err)
			}
			all = append(all, p)
		}
		return nil
	}
	for _, p := range configs {
		var err error
		switch {
		case p.AESGCM != nil:
			err = add("aesgcm", p.AESGCM.Keys, newGCM)
		case p.AESCBC != nil:
			err = add("aescbc", p.AESCBC.Keys, newCBC)
		case p.Secretbox != nil:
			err = add("secretbox", p.Secretbox.Keys, newSecretbox)
		case p.Identity != nil:
			all = append(all, identity{})
		case p.KMS != nil:
			var k *kms
			if k, err = newKMS(ctx, p.KMS); err == nil {
				c.kms = append(c.kms, k)
				all = append(all, k)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Run follows the keys of KMS providers until ctx ends.
func (c *Cipher) Run(ctx context.Context) error {
	for {
		now := c.state()
		following, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for _, k := range now.kms {
			wg.Go(func() { k.run(following) })
		}
		select {
		case <-ctx.Done():
		case <-c.turned:
		}
		stop()
		wg.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if now != c.state() {
			now.close()
		}
	}
}

// Healthy says why a KMS provider does not answer; nil when all do.
func (c *Cipher) Healthy() error {
	var errs []error
	for _, k := range c.state().kms {
		errs = append(errs, k.healthy())
	}
	return errors.Join(errs...)
}

// Close lets go of KMS providers.
func (c *Cipher) Close() { c.state().close() }

func (c *configured) close() {
	for _, k := range c.kms {
		k.conn.Close()
	}
}

// topic is the resource in a key of the store: "/registry/TOPIC/...".
func topic(key string) string {
	rest, ok := strings.CutPrefix(key, "/registry/")
	if !ok {
		return ""
	}
	t, _, _ := strings.Cut(rest, "/")
	return t
}

// of finds the providers of a key; the first of them seals. A rule for the
// resource goes before one for its group, and that before one for all.
func (c *configured) of(key string) []provider {
	t := topic(key)
	if found, ok := c.byTopic.Load(t); ok {
		return found.([]provider)
	}
	gr := schema.ParseGroupResource(t)
	var out []provider
	for _, want := range []schema.GroupResource{gr, {Group: gr.Group, Resource: "*"}, {Group: "*", Resource: "*"}} {
		for _, r := range c.rules {
			if out == nil && r.resource == want {
				out = r.providers
			}
		}
	}
	c.byTopic.Store(strings.Clone(t), out)
	return out
}

// Covers implements store.Cipher.
func (c *Cipher) Covers(key string) bool {
	p := c.state().of(key)
	return len(p) > 0 && p[0] != provider(identity{})
}

// Seal implements store.Cipher.
func (c *Cipher) Seal(key string, value []byte) ([]byte, error) {
	p := c.state().of(key)
	if len(p) == 0 {
		return value, nil
	}
	return p[0].seal([]byte(key), value)
}

var errNoKey = errors.New("no key of the encryption configuration opens it: it was sealed by a provider or key that is not listed any more")

// Open implements store.Cipher.
func (c *Cipher) Open(key string, stored []byte) ([]byte, bool, error) {
	if topic(key) == "" {
		return stored, false, nil
	}
	now := c.state()
	providers := now.of(key)
	if !bytes.HasPrefix(stored, []byte(sealedPrefix)) {
		if len(providers) == 0 || providers[0] == provider(identity{}) {
			return stored, false, nil
		}
		for _, p := range providers {
			if p == provider(identity{}) {
				return stored, true, nil
			}
		}
		return nil, false, errors.New("it is stored in clear, and the encryption configuration has no provider identity to read that")
	}
	var errs []error
	for i, p := range append(providers[:len(providers):len(providers)], now.extra...) {
		if p == provider(identity{}) || !bytes.HasPrefix(stored, p.prefix()) {
			continue
		}
		value, stale, err := p.open([]byte(key), stored[len(p.prefix()):])
		if err == nil {
			return value, stale || i > 0, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, false, errNoKey
	}
	return nil, false, errors.Join(errs...)
}

// identity leaves values as they are.
type identity struct{}

func (identity) prefix() []byte                                    { return nil }
func (identity) seal(_, value []byte) ([]byte, error)              { return value, nil }
func (identity) open(_, sealed []byte) (v []byte, _ bool, _ error) { return sealed, false, nil }

// Rotate seals with a new key of the key file from now on; rewrite must then
// bring everything stored under it. With drop, keys of before are deleted after
// that: backups sealed with them can no longer be read.
func (c *Cipher) Rotate(ctx context.Context, drop bool, rewrite func(context.Context) error) error {
	if r := c.state().rules; len(r) == 0 || r[0].providers[0] != provider(c.keys) {
		return errors.New("cannot rotate: an --encryption-provider-config is in use; put a new key first there and restart the server, which then seals everything with it")
	}
	c.keys.rotating.Lock()
	defer c.keys.rotating.Unlock()
	if err := c.keys.add(); err != nil {
		return err
	}
	if err := rewrite(ctx); err != nil {
		return err
	}
	if drop {
		return c.keys.keepFirst()
	}
	return nil
}

// Keys is the number of keys in the key file.
func (c *Cipher) Keys() int { return c.keys.count() }
