package admission

import (
	"fmt"
	"slices"
)

// off are the rules that run only when they are asked for.
var off = []string{
	"AlwaysAdmit", "NamespaceAutoProvision", "NamespaceExists", "LimitPodHardAntiAffinityTopology", "AlwaysPullImages", "ImagePolicyWebhook", "PodNodeSelector",
	"PodTolerationRestriction", "EventRateLimit", "ExtendedResourceToleration", "OwnerReferencesPermissionEnforcement", "DenyServiceExternalIPs", "AlwaysDeny",
}

// always are rules that upstream has elsewhere than in admission: they cannot be
// switched off.
var always = []string{"NotYet", "NamespaceLifecycle", "ServiceAddresses", "RBACEscalation", "CertificateIdentity", "ResourceClaim"}

// Choose leaves out what is off by default, what disable names, and puts back
// what enable names. A rule that is not known is an error, as is one that cannot
// be switched off.
func Choose(all []Plugin, enable, disable []string) ([]Plugin, error) {
	var names []string
	for _, p := range all {
		names = append(names, p.Name())
	}
	for _, list := range []struct {
		flag  string
		names []string
	}{{"enable-admission-plugins", enable}, {"disable-admission-plugins", disable}} {
		for _, n := range list.names {
			if !slices.Contains(names, n) {
				return nil, fmt.Errorf("--%s: admission plugin %q is unknown", list.flag, n)
			}
		}
	}
	var chosen []Plugin
	for _, p := range all {
		n := p.Name()
		if slices.Contains(enable, n) && slices.Contains(disable, n) {
			return nil, fmt.Errorf("--enable-admission-plugins and --disable-admission-plugins both name %q", n)
		}
		if slices.Contains(disable, n) && slices.Contains(always, n) {
			return nil, fmt.Errorf("--disable-admission-plugins: %q is needed at all times", n)
		}
		if slices.Contains(disable, n) || slices.Contains(off, n) && !slices.Contains(enable, n) {
			continue
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}
