// Package signer holds the rules for the names of those who sign certificates,
// which certificate requests, trust bundles and pods share.
package signer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/field"
)

// MinExpirationSeconds is the least a pod's certificate may be asked to live, in
// seconds.
const MinExpirationSeconds int32 = 60 * 60

// MaxExpirationSeconds is the longest that a pod's certificate may be asked of a
// signer to live, in seconds.
func MaxExpirationSeconds(name string) int32 {
	const day = 24 * 60 * 60
	if host, _, _ := strings.Cut(name, "/"); host == "kubernetes.io" || strings.HasSuffix(host, ".kubernetes.io") {
		return day
	}
	return 91 * day
}

const (
	maxDomain = utilvalidation.DNS1123SubdomainMaxLength
	maxPath   = utilvalidation.DNS1123SubdomainMaxLength + utilvalidation.DNS1123LabelMaxLength + 1
)

// Validate checks the name of a signer: a domain and a path.
func Validate(path *field.Path, name string) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	if len(domain) > maxDomain {
		errs = append(errs, field.TooLong(path, "", maxDomain))
	}
	errs = append(errs, validateLabels(path, domain, utilvalidation.IsDNS1123Label)...)
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	errs = append(errs, validateLabels(path, rest, utilvalidation.IsDNS1123Subdomain)...)
	if most := maxDomain + maxPath + 1; len(name) > most {
		errs = append(errs, field.TooLong(path, "", most))
	}
	return errs
}

// validateLabels reports the first part between dots that breaks its rule.
func validateLabels(path *field.Path, value string, rule func(string) []string) (errs field.ErrorList) {
	for label := range strings.SplitSeq(value, ".") {
		for _, msg := range rule(label) {
			errs = append(errs, field.Invalid(path, value, fmt.Sprintf("validating label %q: %s", label, msg)))
		}
		if len(errs) > 0 {
			break
		}
	}
	return errs
}

// BundleName is the rule for the name of a ClusterTrustBundle of a signer, or of
// none.
func BundleName(name, signer string, prefix bool) []string {
	if signer == "" {
		if strings.Contains(name, ":") {
			return []string{`ClusterTrustBundle without signer name must not have ":" in its name`}
		}
		return validation.NameIsDNSSubdomain(name, prefix)
	}
	start := strings.ReplaceAll(signer, "/", ":") + ":"
	rest, ok := strings.CutPrefix(name, start)
	if !ok {
		return []string{fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, start)}
	}
	return validation.NameIsDNSSubdomain(rest, prefix)
}

// OfBundle returns the signer that the name of a ClusterTrustBundle speaks of,
// empty for none.
func OfBundle(name string) string {
	i := strings.LastIndexByte(name, ':')
	return strings.ReplaceAll(name[:max(i, 0)], ":", "/")
}

// UserAnnotations checks what a pod tells a signer.
func UserAnnotations(path *field.Path, all map[string]string) (errs field.ErrorList) {
	for _, k := range slices.Sorted(maps.Keys(all)) {
		errs = append(errs, utilvalidation.IsDomainPrefixedKey(path.Upstream(), strings.ToLower(k))...)
	}
	if validation.ValidateAnnotationsSize(all) != nil {
		errs = append(errs, field.TooLong(path, "", validation.TotalAnnotationSizeLimitB))
	}
	return errs
}
