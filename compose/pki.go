package compose

import (
	"crypto/ecdsa"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"sagong/config"
	"sagong/lib/pki"
)

// identities are a server's authority, keys and certificates.
type identities struct {
	ca          *pki.Authority
	tokenKey    *ecdsa.PrivateKey // signs service-account tokens
	serving     *pki.Renewing     // the API, to the cluster's own clients
	api         pki.Leaf          // what that names
	admin       *pki.Renewing
	nodeClient  *pki.Renewing // the API server, when it speaks to node agents
	nodeServing *pki.Renewing // this node's agent

	// What aggregated API servers know this one by, when it says who the user is.
	proxyCA     *pki.Authority
	proxyClient *pki.Renewing
}

// proxyName is the name in that certificate.
const proxyName = "front-proxy-client"

func loadIdentities(c config.Config) (*identities, error) {
	dir := PKIDir(c)
	now := time.Now
	ca, err := pki.LoadOrCreateAuthority(dir, "ca", "kubernetes", now())
	if err != nil {
		return nil, err
	}
	id := &identities{ca: ca}
	if id.tokenKey, err = pki.LoadOrCreateKey(filepath.Join(dir, "service-account.key")); err != nil {
		return nil, err
	}
	if id.proxyCA, err = pki.LoadOrCreateAuthority(dir, "front-proxy-ca", "front-proxy-ca", now()); err != nil {
		return nil, err
	}
	if id.proxyClient, err = pki.NewRenewing(id.proxyCA, pki.Leaf{CommonName: proxyName, Client: true}, dir, "front-proxy-client", now); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("cannot find this machine's name: %w", err)
	}
	api := pki.Leaf{
		CommonName: "kube-apiserver", Server: true,
		DNSNames: []string{
			"localhost", host, ownName, "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + c.ClusterDomain,
		},
		Addresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, c.APIServiceIP().AsSlice(), net.ParseIP(c.NodeIP)},
	}
	if at := netip.MustParseAddrPort(c.Listen).Addr(); !at.IsUnspecified() {
		api.Addresses = append(api.Addresses, at.AsSlice())
	}
	for _, n := range c.TLSNames {
		if ip := net.ParseIP(n); ip != nil {
			api.Addresses = append(api.Addresses, ip)
		} else {
			api.DNSNames = append(api.DNSNames, n)
		}
	}
	id.api = api
	for _, x := range []struct {
		name string
		to   **pki.Renewing
		leaf pki.Leaf
	}{
		{"apiserver", &id.serving, api},
		{"admin", &id.admin, pki.Leaf{CommonName: "kubernetes-admin", Organizations: []string{"system:masters"}, Client: true}},
		{"apiserver-kubelet-client", &id.nodeClient, pki.Leaf{CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}, Client: true}},
		{"kubelet", &id.nodeServing, pki.Leaf{
			CommonName: "system:node:" + c.NodeName, Organizations: []string{"system:nodes"}, Server: true,
			DNSNames: []string{c.NodeName}, Addresses: []net.IP{net.ParseIP(c.NodeIP), net.IPv4(127, 0, 0, 1)},
		}},
	} {
		if *x.to, err = pki.NewRenewing(ca, x.leaf, dir, x.name, now); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// withAuthority is the API's certificate followed by the authority's, so that a
// joining node can check the authority against the pin it was given.
func (id *identities) withAuthority(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := id.serving.GetCertificate(h)
	if err != nil {
		return nil, err
	}
	chain := *cert
	chain.Certificate = append(slices.Clone(cert.Certificate), id.ca.Certificate.Raw)
	return &chain, nil
}

// writeAdminKubeconfig keeps the administrator's kubeconfig current.
func writeAdminKubeconfig(c config.Config, id *identities) error {
	p, err := id.admin.Pair()
	if err != nil {
		return err
	}
	name := config.DefaultName
	if c.Name != config.DefaultName {
		name += "-" + c.Name
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), apiPort(c)).String()
	data, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: "https://" + at, CertificateAuthorityData: id.ca.CertPEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificateData: p.CertPEM, ClientKeyData: p.KeyPEM}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
	if err != nil {
		return fmt.Errorf("cannot write the administrator's kubeconfig: %w", err)
	}
	return writeFile(KubeconfigFile(c), data)
}
