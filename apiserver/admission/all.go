package admission

import (
	"net/netip"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/authz"
	"sagong/client"
	"sagong/reconcile"
)

// Deps is what the rules need.
type Deps struct {
	// Client reads with the server's own rights; it never writes.
	Client        client.Client
	Hub           *reconcile.Hub
	Rules         *authz.RBAC
	Authorizer    authorizer.UnconditionalAuthorizer
	ServicePrefix netip.Prefix
	FirstNodePort int
	LastNodePort  int
	// Mutating and Validating are the rules through which users add their own:
	// policies, then webhooks.
	Mutating, Validating []Plugin
}

// All is every rule, in upstream's order.
func All(d Deps) []Plugin {
	list := []Plugin{
		NotYet{},
		NodeRestriction{d.Client, d.Authorizer},
		NamespaceLifecycle{d.Client},
		ServiceAccount{d.Client},
		Priority{d.Client},
		DefaultStorageClass{d.Client},
		StorageObjectInUseProtection{},
		PersistentVolumeClaimResize{d.Client},
		CertificateIdentity{},
		CertificateApproval{d.Authorizer},
		CertificateSubjectRestriction{},
		DefaultTolerationSeconds{},
	}
	list = append(list, d.Mutating...)
	// Addresses are handed out after webhooks had their say, as upstream does.
	list = append(list,
		NewServiceAddresses(d.Hub, d.ServicePrefix, d.FirstNodePort, d.LastNodePort),
		RBACEscalation{d.Rules, d.Authorizer},
	)
	return append(list, d.Validating...)
}
