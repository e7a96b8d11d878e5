package networking

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

const classAnnotation = "kubernetes.io/ingress.class"

var specPath = field.NewPath("spec")

func validateIngressCreate(i *networkingv1.Ingress) field.ErrorList {
	errs := validateIngress(i)
	if class, ok := i.Annotations[classAnnotation]; ok && i.Spec.IngressClassName != nil && class != *i.Spec.IngressClassName {
		errs = append(errs, field.Invalid(field.NewPath("annotations").Child(classAnnotation), class, "must match `ingressClassName` when both are specified"))
	}
	return errs
}

// validateIngressUpdate lets the names of secrets pass where one was bad before.
func validateIngressUpdate(i, old *networkingv1.Ingress) field.ErrorList {
	return validateIngressSpec(i, slices.ContainsFunc(old.Spec.TLS, func(t networkingv1.IngressTLS) bool {
		return t.SecretName != "" && len(validation.NameIsDNSSubdomain(t.SecretName, false)) > 0
	}))
}

func validateIngress(i *networkingv1.Ingress) field.ErrorList { return validateIngressSpec(i, false) }

func validateIngressSpec(i *networkingv1.Ingress, anySecret bool) (errs field.ErrorList) {
	s := &i.Spec
	if len(s.Rules) == 0 && s.DefaultBackend == nil {
		errs = append(errs, field.Invalid(specPath, s.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if s.DefaultBackend != nil {
		errs = append(errs, validateBackend(s.DefaultBackend, specPath.Child("defaultBackend"))...)
	}
	for j, r := range s.Rules {
		p := specPath.Child("rules").Index(j)
		if r.Host != "" {
			if netutils.ParseIPSloppy(r.Host) != nil {
				errs = append(errs, field.Invalid(p.Child("host"), r.Host, "must be a DNS name, not an IP address"))
			}
			errs = append(errs, validateHost(r.Host, p.Child("host"))...)
		}
		if r.HTTP == nil {
			continue
		}
		p = p.Child("http", "paths")
		if len(r.HTTP.Paths) == 0 {
			errs = append(errs, field.Required(p, ""))
		}
		for k := range r.HTTP.Paths {
			errs = append(errs, validatePath(&r.HTTP.Paths[k], p.Index(k))...)
		}
	}
	for j, t := range s.TLS {
		for k, host := range t.Hosts {
			errs = append(errs, validateHost(host, specPath.Child("tls").Index(j).Child("hosts").Index(k))...)
		}
		if t.SecretName != "" && !anySecret {
			errs = append(errs, check.Name(specPath.Child("tls").Index(j).Child("secretName"), t.SecretName, validation.NameIsDNSSubdomain)...)
		}
	}
	if s.IngressClassName != nil {
		errs = append(errs, check.Name(specPath.Child("ingressClassName"), *s.IngressClassName, validation.NameIsDNSSubdomain)...)
	}
	return errs
}

func validateHost(host string, path *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return check.Rule(path, host, utilvalidation.IsWildcardDNS1123Subdomain)
	}
	return check.Rule(path, host, utilvalidation.IsDNS1123Subdomain)
}

func validatePath(h *networkingv1.HTTPIngressPath, path *field.Path) (errs field.ErrorList) {
	if h.PathType == nil {
		return append(errs, field.Required(path.Child("pathType"), "pathType must be specified"))
	}
	p := path.Child("path")
	switch *h.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(h.Path, "/") {
			errs = append(errs, field.Invalid(p, h.Path, "must be an absolute path"))
		}
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(h.Path, bad) {
				errs = append(errs, field.Invalid(p, h.Path, fmt.Sprintf("must not contain '%s'", bad)))
			}
		}
		for _, bad := range []string{"/..", "/."} {
			if strings.HasSuffix(h.Path, bad) {
				errs = append(errs, field.Invalid(p, h.Path, fmt.Sprintf("cannot end with '%s'", bad)))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
			errs = append(errs, field.Invalid(p, h.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("pathType"), *h.PathType,
			[]networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return append(errs, validateBackend(&h.Backend, path.Child("backend"))...)
}

func validateBackend(b *networkingv1.IngressBackend, path *field.Path) (errs field.ErrorList) {
	switch {
	case b.Resource != nil && b.Service != nil:
		return append(errs, field.Invalid(path, "", "cannot set both resource and service backends"))
	case b.Resource != nil:
		errs = append(errs, validateLocalReference(b.Resource.APIGroup, b.Resource.Kind, b.Resource.Name, path.Child("resource"))...)
	case b.Service != nil:
		p := path.Child("service")
		errs = append(errs, check.RequiredName(p.Child("name"), b.Service.Name, utilvalidation.IsDNS1123Label)...)
		p = p.Child("port")
		named, numbered := b.Service.Port.Name != "", b.Service.Port.Number != 0
		switch {
		case named && numbered:
			errs = append(errs, field.Invalid(path, "", "cannot set both port name & port number"))
		case named:
			errs = append(errs, check.Rule(p.Child("name"), b.Service.Port.Name, utilvalidation.IsValidPortName)...)
		case numbered:
			errs = append(errs, check.Port(p.Child("number"), b.Service.Port.Number)...)
		default:
			errs = append(errs, field.Required(path, "port name or number is required"))
		}
	default:
		errs = append(errs, field.Invalid(path, "", "resource or service backend is required"))
	}
	return errs
}

// validateLocalReference checks what a backend or a class refers to.
func validateLocalReference(group *string, kind, name string, path *field.Path) (errs field.ErrorList) {
	if group != nil {
		errs = append(errs, check.Rule(path.Child("apiGroup"), *group, utilvalidation.IsDNS1123Subdomain)...)
	}
	for _, f := range []struct{ name, value string }{{"kind", kind}, {"name", name}} {
		if f.value == "" {
			errs = append(errs, field.Required(path.Child(f.name), ""))
		} else {
			errs = append(errs, check.Rule(path.Child(f.name), f.value, pathvalidation.IsValidPathSegmentName)...)
		}
	}
	return errs
}

func validateIngressStatus(i, old *networkingv1.Ingress) (errs field.ErrorList) {
	var was []string
	for _, in := range old.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			was = append(was, in.IP)
		}
	}
	for j, in := range i.Status.LoadBalancer.Ingress {
		p := field.NewPath("status", "loadBalancer", "ingress").Index(j)
		if in.IP != "" {
			errs = append(errs, utilvalidation.IsValidIPForLegacyField(p.Child("ip").Upstream(), in.IP, true, was)...)
		}
		if in.Hostname != "" {
			errs = append(errs, check.Rule(p.Child("hostname"), in.Hostname, utilvalidation.IsDNS1123Subdomain)...)
			if netutils.ParseIPSloppy(in.Hostname) != nil {
				errs = append(errs, field.Invalid(p.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}

func ingressWarnings(i, old *networkingv1.Ingress) []string {
	if old != nil {
		return nil
	}
	if _, ok := i.Annotations[classAnnotation]; ok {
		return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
	}
	return nil
}
