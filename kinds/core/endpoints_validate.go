package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateEndpoints(e *corev1.Endpoints) (errs field.ErrorList) {
	for i := range e.Subsets {
		s, p := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(p, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, validateEndpointAddress(&s.Addresses[j], p.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(&s.NotReadyAddresses[j], p.Child("notReadyAddresses").Index(j))...)
		}
		for j, port := range s.Ports {
			p := p.Child("ports").Index(j)
			switch {
			case port.Name != "":
				errs = append(errs, check.Rule(p.Child("name"), port.Name, utilvalidation.IsDNS1123Label)...)
			case len(s.Ports) > 1:
				errs = append(errs, field.Required(p.Child("name"), ""))
			}
			errs = append(errs, check.Port(p.Child("port"), port.Port)...)
			errs = append(errs, check.RequiredOneOf(p.Child("protocol"), port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
			if port.AppProtocol != nil {
				errs = append(errs, check.Rule(p.Child("appProtocol"), *port.AppProtocol, utilvalidation.IsQualifiedName)...)
			}
		}
	}
	return errs
}

func validateEndpointAddress(a *corev1.EndpointAddress, path *field.Path) field.ErrorList {
	errs := utilvalidation.IsValidIPForLegacyField(path.Child("ip").Upstream(), a.IP, true, nil)
	if a.Hostname != "" {
		errs = append(errs, check.Rule(path.Child("hostname"), a.Hostname, utilvalidation.IsDNS1123Label)...)
	}
	if a.NodeName != nil {
		errs = append(errs, check.Name(path.Child("nodeName"), *a.NodeName, validation.NameIsDNSSubdomain)...)
	}
	return append(errs, ordinaryIP(a.IP, path.Child("ip"))...)
}
