package compose

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// extensionAuthentication is the ConfigMap from which aggregated servers learn
// whose certificates name users, and which proxies may name them in headers.
const extensionAuthentication = "extension-apiserver-authentication"

// publishAuthorities writes it before anybody is served.
func (s *server) publishAuthorities(ctx context.Context) error {
	has, err := client.Get[*corev1.ConfigMap](ctx, s.system, metav1.NamespaceSystem, extensionAuthentication)
	if apierrors.IsNotFound(err) {
		has, err = nil, nil
	}
	if err != nil {
		return err
	}
	return s.writeAuthorities(ctx, s.system, has)
}

// writeAuthorities brings the ConfigMap (nil for none) up to the authorities in
// force. What another server said there stays, but for certificates that ran out:
// upstream does so as well, for the sake of those that start with other files.
func (s *server) writeAuthorities(ctx context.Context, w client.Client, has *corev1.ConfigMap) error {
	if has == nil {
		_, err := client.Create(ctx, w, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: extensionAuthentication}, Data: s.authorityFacts(nil),
		})
		return err
	}
	data := s.authorityFacts(has.Data)
	if maps.Equal(data, has.Data) {
		return nil
	}
	next := has.DeepCopy()
	next.Data = data
	_, err := client.Update(ctx, w, next)
	return err
}

func (s *server) authorityFacts(before map[string]string) map[string]string {
	c := s.cfg
	// The server itself is a proxy, with names and headers of its own, and those of
	// flags count when there is an authority for them.
	names, users, uids := []string{proxyName}, []string{"X-Remote-User"}, []string{"X-Remote-Uid"}
	groups, extras := []string{"X-Remote-Group"}, []string{"X-Remote-Extra-"}
	if c.RequestHeaderCA != "" {
		names, users, uids = slices.Concat(names, c.RequestHeaderNames), slices.Concat(users, c.RequestHeaderUsers), slices.Concat(uids, c.RequestHeaderUIDs)
		groups, extras = slices.Concat(groups, c.RequestHeaderGroups), slices.Concat(extras, c.RequestHeaderExtras)
	}
	clients, proxies := s.trust.now()
	data := map[string]string{
		"client-ca-file":               joinCertificates([]byte(before["client-ca-file"]), clients),
		"requestheader-client-ca-file": joinCertificates([]byte(before["requestheader-client-ca-file"]), proxies),
	}
	for key, list := range map[string][]string{
		"requestheader-allowed-names": names, "requestheader-username-headers": users, "requestheader-uid-headers": uids,
		"requestheader-group-headers": groups, "requestheader-extra-headers-prefix": extras,
	} {
		data[key] = joinNames(before[key], list)
	}
	if c.RequestHeaderCA != "" && len(c.RequestHeaderNames) == 0 {
		data["requestheader-allowed-names"] = "[]" // any
	}
	return data
}

// joinNames adds names to a JSON list of some.
func joinNames(before string, names []string) string {
	var all []string
	if json.Unmarshal([]byte(before), &all) != nil {
		all = nil // somebody's mistake
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	out, err := json.Marshal(all)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(out)
}

// joinCertificates lists each certificate once, but those that ran out.
func joinCertificates(texts ...[]byte) string {
	var all []*x509.Certificate
	var out bytes.Buffer
	for _, t := range texts {
		certs, err := cert.ParseCertsPEM(t)
		if err != nil {
			continue // nothing there, or somebody's mistake
		}
		for _, c := range certs {
			if c.NotAfter.After(time.Now().Add(-5*time.Minute)) && !slices.ContainsFunc(all, c.Equal) {
				all = append(all, c)
				_ = pem.Encode(&out, &pem.Block{Type: cert.CertificateBlockType, Bytes: c.Raw}) // a buffer takes all
			}
		}
	}
	return out.String()
}

// authorityKeeper keeps the ConfigMap in step with the files of authorities, and
// mends it when it is changed or deleted.
type authorityKeeper struct {
	s    *server
	maps *reconcile.View[*corev1.ConfigMap]
}

func (k *authorityKeeper) Name() string { return "cluster_authentication_trust_controller" }

func (k *authorityKeeper) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.On(k.maps, func(old, new *corev1.ConfigMap, enqueue func(object.Key)) {
		m := new
		if m == nil {
			m = old
		}
		if m.Name == extensionAuthentication && m.Namespace == metav1.NamespaceSystem {
			enqueue(object.KeyOf(m))
		}
	})}
}

func (k *authorityKeeper) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: k.maps.Definition().GVK().GroupKind(), Field: "named " + extensionAuthentication}}
}

// Run implements reconcile.Runner.
func (k *authorityKeeper) Run(_ context.Context, _ client.Client, enqueue func(object.Key)) error {
	changed := func() { enqueue(object.Key{Namespace: metav1.NamespaceSystem, Name: extensionAuthentication}) }
	k.s.trust.onChange(changed)
	changed() // what did before
	return nil
}

func (k *authorityKeeper) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	has, _ := k.maps.Get(key.Namespace, key.Name)
	return reconcile.Result{}, k.s.writeAuthorities(ctx, w, has)
}
