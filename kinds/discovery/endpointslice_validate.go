package discovery

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/kinds/check"
)

// How large one slice may grow.
const (
	maxTopology  = 16
	maxAddresses = 100
	maxPorts     = 20_000
	maxEndpoints = 1000
	maxZones     = 8
)

func validateEndpointSlice(e *discoveryv1.EndpointSlice) (errs field.ErrorList) {
	p := field.NewPath("addressType")
	if e.AddressType == "" {
		errs = append(errs, field.Required(p, ""))
	} else {
		errs = append(errs, check.OneOf(p, e.AddressType, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)...)
	}
	if n := len(e.Endpoints); n > maxEndpoints {
		errs = append(errs, field.TooMany(field.NewPath("endpoints"), n, maxEndpoints))
	}
	for i := range e.Endpoints {
		errs = append(errs, validateEndpoint(&e.Endpoints[i], e.AddressType, field.NewPath("endpoints").Index(i))...)
	}
	return append(errs, validatePorts(e.Ports, field.NewPath("ports"))...)
}

func validateEndpoint(e *discoveryv1.Endpoint, t discoveryv1.AddressType, path *field.Path) (errs field.ErrorList) {
	p := path.Child("addresses")
	switch n := len(e.Addresses); {
	case n == 0:
		errs = append(errs, field.Required(p, "must contain at least 1 address"))
	case n > maxAddresses:
		errs = append(errs, field.TooMany(p, n, maxAddresses))
	}
	for i, a := range e.Addresses {
		p := p.Index(i)
		switch t {
		case discoveryv1.AddressTypeFQDN:
			errs = append(errs, utilvalidation.IsFullyQualifiedDomainName(p, a)...)
		case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
			bad := utilvalidation.IsValidIPForLegacyField(p, a, true, nil)
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
	errs = append(errs, metav1validation.ValidateLabels(e.DeprecatedTopology, path.Child("deprecatedTopology"))...)
	if e.Hostname != nil {
		errs = append(errs, check.Rule(path.Child("hostname"), *e.Hostname, utilvalidation.IsDNS1123Label)...)
	}
	if e.Hints != nil {
		p := path.Child("hints", "forZones")
		if n := len(e.Hints.ForZones); n > maxZones {
			errs = append(errs, field.TooMany(p, n, maxZones))
		}
		seen := map[string]bool{}
		for i, z := range e.Hints.ForZones {
			errs = append(errs, check.Rule(p.Index(i).Child("name"), z.Name, utilvalidation.IsValidLabelValue)...)
			if seen[z.Name] {
				errs = append(errs, field.Duplicate(p.Index(i).Child("name"), z.Name))
			}
			seen[z.Name] = true
		}
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
		errs = append(errs, field.TooMany(path, n, maxPorts))
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

func validateEndpointSliceUpdate(e, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := validateEndpointSlice(e)
	return append(errs, check.Immutable(field.NewPath("addressType"), e.AddressType, old.AddressType)...)
}
