package encryption

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"k8s.io/apiserver/pkg/apis/apiserver"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	kmsapi "k8s.io/kms/apis/v2"
)

// kms seals with seeds that only a KMS v2 plugin can unwrap. The plugin is asked
// when the server starts, when its key changes and for seeds it has not seen,
// never for a single object:
// https://kubernetes.io/docs/tasks/administer-cluster/kms-provider/
type kms struct {
	name    string
	pre     []byte
	timeout time.Duration
	conn    *grpc.ClientConn
	plugin  kmsapi.KeyManagementServiceClient
	now     func() time.Time

	mu      sync.Mutex
	state   kmsState
	failure error // of the last look at the plugin
	opened  map[[sha256.Size]byte]opener
}

// kmsState is what values are sealed with.
type kmsState struct {
	seed    seed
	wrapped *kmstypes.EncryptedObject // without data
	until   time.Time                 // writes are refused after it
}

// opener opens the values of one wrapped key.
type opener func(aad, sealed []byte) ([]byte, error)

// The times and sizes of upstream.
const (
	kmsLook      = time.Minute
	kmsLookAgain = 10 * time.Second
	kmsCoast     = 3 * time.Minute // how long writes go on without the plugin
	kmsMaxKeyID  = 1 << 10
	kmsMaxSource = 1 << 10
	kmsMaxNotes  = 32 << 10
)

func newKMS(ctx context.Context, c *apiserver.KMSConfiguration) (*kms, error) {
	path, ok := strings.CutPrefix(c.Endpoint, "unix://")
	if !ok {
		return nil, fmt.Errorf("KMS provider %s: endpoint %q is not a unix socket", c.Name, c.Endpoint)
	}
	// "unix:///@name" is an abstract socket, as upstream reads it.
	target := "unix:" + path
	if name, ok := strings.CutPrefix(path, "/@"); ok {
		target = "unix-abstract:" + name
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return nil, fmt.Errorf("KMS provider %s: %w", c.Name, err)
	}
	k := &kms{
		name: c.Name, pre: []byte(sealedPrefix + "kms:v2:" + c.Name + ":"), timeout: c.Timeout.Duration,
		conn: conn, plugin: kmsapi.NewKeyManagementServiceClient(conn), now: time.Now, opened: map[[sha256.Size]byte]opener{},
	}
	if k.look(ctx); k.failure != nil {
		conn.Close()
		return nil, k.failure
	}
	return k, nil
}

func (k *kms) prefix() []byte { return k.pre }

// run looks at the plugin from time to time.
func (k *kms) run(ctx context.Context) {
	wait := kmsLook
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if wait = kmsLook; k.look(ctx) != nil {
			wait = kmsLookAgain
		}
	}
}

// look asks the plugin for its key and takes a new seed when it has changed.
func (k *kms) look(ctx context.Context) error {
	err := k.renew(ctx)
	if err != nil {
		err = fmt.Errorf("kmsv2 Provider %s is not healthy, error: %w", k.name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failure = err
	return err
}

func (k *kms) renew(ctx context.Context) error {
	until := k.now().Add(kmsCoast)
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	st, err := k.plugin.Status(ctx, &kmsapi.StatusRequest{}, grpc.WaitForReady(true))
	switch {
	case err != nil:
		return err
	case st.Healthz != "ok":
		return fmt.Errorf("got unexpected healthz status: %s", st.Healthz)
	case st.Version != "v2" && st.Version != "v2beta1":
		return fmt.Errorf("expected KMSv2 API version v2, got %s", st.Version)
	case st.KeyId == "" || len(st.KeyId) > kmsMaxKeyID:
		return fmt.Errorf("keyID has %d bytes, which must be between 1 and %d", len(st.KeyId), kmsMaxKeyID)
	}
	k.mu.Lock()
	same := k.state.wrapped != nil && k.state.wrapped.KeyID == st.KeyId
	if same {
		k.state.until = until
	}
	k.mu.Unlock()
	if same {
		return nil
	}
	fresh := make(seed, seedSize)
	rand.Read(fresh)
	resp, err := k.plugin.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: fresh, Uid: uuid.NewString()})
	if err != nil {
		return fmt.Errorf("failed to encrypt DEK, error: %w", err)
	}
	wrapped := &kmstypes.EncryptedObject{
		KeyID: resp.KeyId, EncryptedDEKSource: resp.Ciphertext, Annotations: resp.Annotations,
		EncryptedDEKSourceType: kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED,
	}
	if err := checkWrapped(wrapped); err != nil {
		return err
	}
	if resp.KeyId != st.KeyId {
		return errors.New("the plugin encrypts with another key than its status names")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = kmsState{fresh, wrapped, until}
	k.opened[cacheKey(wrapped)] = fresh.open
	return nil
}

func (k *kms) healthy() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failure
}

func (k *kms) seal(aad, value []byte) ([]byte, error) {
	k.mu.Lock()
	st := k.state
	k.mu.Unlock()
	if k.now().After(st.until) {
		return nil, fmt.Errorf("KMS provider %s has not answered since %s", k.name, st.until.Add(-kmsCoast).Format(time.RFC3339))
	}
	data, err := st.seed.seal(nil, aad, value)
	if err != nil {
		return nil, err
	}
	w := st.wrapped
	return proto.MarshalOptions{}.MarshalAppend(slices.Clone(k.pre), &kmstypes.EncryptedObject{
		EncryptedData: data, KeyID: w.KeyID, EncryptedDEKSource: w.EncryptedDEKSource, Annotations: w.Annotations, EncryptedDEKSourceType: w.EncryptedDEKSourceType,
	})
}

func (k *kms) open(aad, sealed []byte) ([]byte, bool, error) {
	o := &kmstypes.EncryptedObject{}
	if err := proto.Unmarshal(sealed, o); err != nil {
		return nil, false, err
	}
	if err := checkWrapped(o); err != nil {
		return nil, false, err
	}
	key := cacheKey(o)
	k.mu.Lock()
	open, current := k.opened[key], k.state.wrapped.KeyID
	k.mu.Unlock()
	if open == nil {
		var err error
		if open, err = k.unwrap(o); err != nil {
			return nil, false, fmt.Errorf("failed to decrypt DEK, error: %w", err)
		}
		k.mu.Lock()
		k.opened[key] = open
		k.mu.Unlock()
	}
	value, err := open(aad, o.EncryptedData)
	stale := o.KeyID != current || o.EncryptedDEKSourceType != kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED
	return value, stale, err
}

// unwrap asks the plugin for the key of a value.
func (k *kms) unwrap(o *kmstypes.EncryptedObject) (opener, error) {
	ctx, cancel := context.WithTimeout(context.Background(), k.timeout)
	defer cancel()
	resp, err := k.plugin.Decrypt(ctx, &kmsapi.DecryptRequest{
		Ciphertext: o.EncryptedDEKSource, Uid: uuid.NewString(), KeyId: o.KeyID, Annotations: o.Annotations,
	}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	if o.EncryptedDEKSourceType == kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED {
		if len(resp.Plaintext) < seedSize {
			return nil, fmt.Errorf("invalid seed length %d used for key generation", len(resp.Plaintext))
		}
		return seed(resp.Plaintext).open, nil
	}
	p, err := newGCM("", resp.Plaintext)
	if err != nil {
		return nil, err
	}
	return func(aad, sealed []byte) ([]byte, error) {
		value, _, err := p.open(aad, sealed)
		return value, err
	}, nil
}

// checkWrapped holds what a plugin or the disk gave to upstream's limits.
func checkWrapped(o *kmstypes.EncryptedObject) error {
	notes := 0
	for name, v := range o.Annotations {
		notes += len(name) + len(v)
	}
	switch {
	case o.KeyID == "" || len(o.KeyID) > kmsMaxKeyID:
		return fmt.Errorf("keyID has %d bytes, which must be between 1 and %d", len(o.KeyID), kmsMaxKeyID)
	case len(o.EncryptedDEKSource) == 0 || len(o.EncryptedDEKSource) > kmsMaxSource:
		return fmt.Errorf("encrypted DEK source has %d bytes, which must be between 1 and %d", len(o.EncryptedDEKSource), kmsMaxSource)
	case notes > kmsMaxNotes:
		return fmt.Errorf("annotations have %d bytes, which must be at most %d", notes, kmsMaxNotes)
	case o.EncryptedDEKSourceType != kmstypes.EncryptedDEKSourceType_AES_GCM_KEY && o.EncryptedDEKSourceType != kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED:
		return fmt.Errorf("unknown encryptedDEKSourceType: %d", o.EncryptedDEKSourceType)
	}
	return nil
}

// cacheKey names a wrapped key.
func cacheKey(o *kmstypes.EncryptedObject) [sha256.Size]byte {
	var b []byte
	add := func(part []byte) {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	b = append(b, byte(o.EncryptedDEKSourceType))
	add(o.EncryptedDEKSource)
	add([]byte(o.KeyID))
	for _, name := range slices.Sorted(maps.Keys(o.Annotations)) {
		add([]byte(name))
		add(o.Annotations[name])
	}
	return sha256.Sum256(b)
}
