package admission

import (
	"time"

	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/admission/quota"
	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/reconcile"
)

// Deps is what the rules need.
type Deps struct {
	// Client reads with the server's own rights. NamespaceAutoProvision writes, too.
	Client client.Client
	// Engine stores what goes with an object besides, such as IPAddresses.
	Engine        *resource.Engine
	Hub           *reconcile.Hub
	Rules         *authz.RBAC
	Authorizer    authorizer.UnconditionalAuthorizer
	FirstNodePort int
	LastNodePort  int
	// Mutating and Validating are the rules through which users add their own:
	// policies, then webhooks.
	Mutating, Validating []Plugin
	// Workloads says that groups of pods are served.
	Workloads bool
	// PodSecurity and Quota are nil for a server without.
	PodSecurity *PodSecurity
	Quota       *quota.Ledger
	// NodeSelectors, Tolerations and EventLimits configure PodNodeSelector,
	// PodTolerationRestriction and EventRateLimit.
	NodeSelectors map[string]string
	Tolerations   TolerationRules
	EventLimits   []EventLimit
	// Images is the service of ImagePolicyWebhook; nil when none is configured.
	Images *ImagePolicy
}

// All is every rule, in upstream's order; Choose says which of them run.
func All(d Deps) []Plugin {
	list := []Plugin{
		NotYet{},
		AlwaysAdmit{},
		NamespaceAutoProvision{d.Client},
		NamespaceLifecycle{d.Client},
		NamespaceExists{d.Client},
		LimitPodHardAntiAffinityTopology{},
		LimitRanger{d.Client},
		ServiceAccount{d.Client},
		NodeRestriction{d.Client, d.Authorizer},
		TaintNodesByCondition{},
		AlwaysPullImages{},
		ImagePolicyWebhook{d.Images},
	}
	if d.PodSecurity != nil {
		list = append(list, *d.PodSecurity)
	}
	list = append(list,
		PodNodeSelector{d.Client, d.NodeSelectors},
		Priority{d.Client},
		DefaultTolerationSeconds{},
		PodTolerationRestriction{d.Client, d.Tolerations},
		NewEventRateLimit(d.EventLimits, time.Now),
		ExtendedResourceToleration{},
		DefaultStorageClass{d.Client},
		StorageObjectInUseProtection{},
		OwnerReferencesPermissionEnforcement{d.Client, d.Authorizer},
		PersistentVolumeClaimResize{d.Client},
		RuntimeClass{d.Client},
		CertificateIdentity{},
		CertificateApproval{d.Authorizer},
		ClusterTrustBundleAttest{d.Authorizer},
		CertificateSubjectRestriction{},
		DefaultIngressClass{d.Client},
		DenyServiceExternalIPs{},
		PodTopologyLabels{d.Client},
		NodeDeclaredFeatureValidator{d.Client},
		PodResizeValidator{d.Client},
	)
	if d.Workloads {
		list = append(list, PodGroupProtection{})
	}
	list = append(list, d.Mutating...)
	// Addresses are handed out after webhooks had their say, as upstream does.
	list = append(list,
		NewServiceAddresses(d.Engine, d.Client, d.Hub, d.FirstNodePort, d.LastNodePort),
		RBACEscalation{d.Rules, d.Authorizer},
		ResourceClaim{d.Client, d.Authorizer},
	)
	list = append(list, d.Validating...)
	// Quotas come last: only what nobody else refuses is charged.
	if d.Quota != nil {
		list = append(list, d.Quota)
	}
	return append(list, AlwaysDeny{})
}
