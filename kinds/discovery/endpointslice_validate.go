package discovery

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// How large one slice may grow.
const (
	maxTopology  = 16
	maxAddresses = 100
	maxPorts     = 20_000
	maxEndpoints = 1000
	maxHints     = 8
)

func validateEndpointSlice(e *discoveryv1.EndpointSlice) field.ErrorList {
	return validateDeclared(e, nil, validateSlice(e))
}

func validateEndpointSliceUpdate(e, old *discoveryv1.EndpointSlice) field.ErrorList {
	return validateDeclared(e, old, validateSlice(e))
}

// validateDeclared adds to what is wrong with a slice what upstream declares beside
// the type, which comes last.
func validateDeclared(e, old *discoveryv1.EndpointSlice, errs field.ErrorList) field.ErrorList {
	p := field.NewPath("addressType")
	switch {
	case old != nil && old.AddressType == e.AddressType:
	case e.AddressType == "":
		errs = append(errs, field.Required(p, ""))
	default:
		if old != nil {
			errs = append(errs, check.Declared(p, false)...)
		}
		errs = append(errs, check.OneOf(p, e.AddressType, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)...)
	}
	if len(e.Endpoints) > maxEndpoints {
		return errs
	}
	for i := range e.Endpoints {
		p := field.NewPath("endpoints").Index(i).Child("addresses")
		switch n := len(e.Endpoints[i].Addresses); {
		case n == 0:
			errs = append(errs, field.Required(p, ""))
		case n > maxAddresses:
			errs = append(errs, field.TooMany(p, n, maxAddresses))
		}
	}
	return errs
}

func validateSlice(e *discoveryv1.EndpointSlice) (errs field.ErrorList) {
	if n := len(e.Endpoints); n > maxEndpoints {
		errs = append(errs, field.TooMany(field.NewPath("endpoints"), n, maxEndpoints))
	} else {
		for i := range e.Endpoints {
			errs = append(errs, validateEndpoint(&e.Endpoints[i], e.AddressType, field.NewPath("endpoints").Index(i))...)
		}
	}
	return append(errs, validatePorts(e.Ports, field.NewPath("ports"))...)
}

func validateEndpoint(e *discoveryv1.Endpoint, t discoveryv1.AddressType, path *field.Path) (errs field.ErrorList) {
	p := path.Child("addresses")
	for i, a := range e.Addresses {
		p := p.Index(i)
		switch t {
		case discoveryv1.AddressTypeFQDN:
			errs = append(errs, utilvalidation.IsFullyQualifiedDomainName(p.Upstream(), a)...)
		case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
			bad := utilvalidation.IsValidIPForLegacyField(p.Upstream(), a, true, nil)
			if len(bad) == 0 {
				if v6 := strings.Contains(a, ":"); v6 && t == discoveryv1.AddressTypeIPv4 {
					bad = append(bad, field.Invalid(p, a, "must be an IPv4 address"))
				} else if !v6 && t == discoveryv1.AddressTypeIPv6 {
					bad = append(bad, field.Invalid(p, a, "must be an IPv6 address"))
				} else {
					bad = append(bad, ordinaryIP(a, p)...)
				}
			}
			errs = append(errs, bad...)
		}
	}
	if e.NodeName != nil {
		errs = append(errs, check.Name(path.Child("nodeName"), *e.NodeName, validation.NameIsDNSSubdomain)...)
	}
	if n := len(e.DeprecatedTopology); n > maxTopology {
		errs = append(errs, field.TooMany(path.Child("deprecatedTopology"), n, maxTopology))
	}
	errs = append(errs, metav1validation.ValidateLabels(e.DeprecatedTopology, path.Child("deprecatedTopology").Upstream())...)
	if e.Hostname != nil {
		errs = append(errs, check.Rule(path.Child("hostname"), *e.Hostname, utilvalidation.IsDNS1123Label)...)
	}
	if e.Hints != nil {
		var zones, nodes []string
		for _, z := range e.Hints.ForZones {
			zones = append(zones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			nodes = append(nodes, n.Name)
		}
		errs = append(errs, validateHints(zones, path.Child("hints", "forZones"), utilvalidation.IsValidLabelValue)...)
		errs = append(errs, validateHints(nodes, path.Child("hints", "forNodes"), utilvalidation.IsDNS1123Subdomain)...)
	}
	return errs
}

// validateHints checks for whom an endpoint is meant.
func validateHints(names []string, path *field.Path, rule func(string) []string) (errs field.ErrorList) {
	if n := len(names); n > maxHints {
		return field.ErrorList{field.TooMany(path, n, maxHints)}
	}
	for i, name := range names {
		p := path.Index(i).Child("name")
		if slices.Contains(names[:i], name) {
			errs = append(errs, field.Duplicate(p, name))
		}
		errs = append(errs, check.Rule(p, name, rule)...)
	}
	return errs
}

func ordinaryIP(s string, path *field.Path) (errs field.ErrorList) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil:
	case ip.IsUnspecified():
		errs = append(errs, field.Invalid(path, s, "may not be unspecified ("+s+")"))
	case ip.IsLoopback():
		errs = append(errs, field.Invalid(path, s, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	case ip.IsLinkLocalUnicast():
		errs = append(errs, field.Invalid(path, s, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
	case ip.IsLinkLocalMulticast():
		errs = append(errs, field.Invalid(path, s, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
	}
	return errs
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) (errs field.ErrorList) {
	if n := len(ports); n > maxPorts {
		return field.ErrorList{field.TooMany(path, n, maxPorts)}
	}
	names := map[string]bool{}
	for i, port := range ports {
		p, name := path.Index(i), ""
		if port.Name != nil {
			name = *port.Name
		}
		if name != "" {
			errs = append(errs, check.Rule(p.Child("name"), name, utilvalidation.IsDNS1123Label)...)
		}
		if names[name] {
			errs = append(errs, field.Duplicate(p.Child("name"), name))
		}
		names[name] = true
		if port.Protocol == nil {
			errs = append(errs, field.Required(p.Child("protocol"), ""))
		} else {
			errs = append(errs, check.OneOf(p.Child("protocol"), *port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		}
		if port.AppProtocol != nil {
			errs = append(errs, check.Rule(p.Child("appProtocol"), *port.AppProtocol, utilvalidation.IsQualifiedName)...)
		}
	}
	return errs
}
