package check

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/field"
)

// The rules here are the library's of the same names. Those are regular
// expressions, which are asked only about what is not plainly right: a pod has two
// dozen names, and nearly all of those that are written are right.

// IsDNS1123Label is the rule for a label of a DNS name (RFC 1123).
func IsDNS1123Label(s string) []string {
	if len(s) <= utilvalidation.DNS1123LabelMaxLength && between(s, lower, lower|hyphen) {
		return nil
	}
	return utilvalidation.IsDNS1123Label(s)
}

// IsQualifiedName is the rule for a name with or without a prefix.
func IsQualifiedName(s string) []string {
	if plainlyQualified(s) {
		return nil
	}
	return utilvalidation.IsQualifiedName(s)
}

// IsValidPortName is the rule for the name of a port (RFC 6335).
func IsValidPortName(s string) []string {
	if len(s) <= 15 && between(s, lower, lower) && s[0] > '9' {
		return nil
	}
	return utilvalidation.IsValidPortName(s)
}

// LabelName checks the key of a label.
func LabelName(path *field.Path, key string) field.ErrorList {
	if plainlyQualified(key) {
		return nil
	}
	return metav1validation.ValidateLabelName(key, path.Upstream())
}

// plainlyQualified reports whether a name follows IsQualifiedName; it may say no
// of some that do.
func plainlyQualified(s string) bool {
	for i := range len(s) {
		if s[i] == '/' {
			// Of a prefix, only one of letters and digits, each dot and hyphen
			// between two of them.
			prefix := s[:i]
			s = s[i+1:]
			if i > 63 || !between(prefix, lower, lower|hyphen|dot) {
				return false
			}
			for j := 1; j < i; j++ {
				if classes[prefix[j]]&lower == 0 && classes[prefix[j-1]]&lower == 0 {
					return false
				}
			}
			break
		}
	}
	return len(s) <= 63 && between(s, lower|upper, lower|upper|hyphen|dot|underscore)
}

// class is a set of kinds of characters.
type class uint8

const (
	lower class = 1 << iota // and digits
	upper
	hyphen
	dot
	underscore
)

var classes = func() (c [256]class) {
	for i := range 10 {
		c['0'+i] = lower
	}
	for i := range 26 {
		c['a'+i], c['A'+i] = lower, upper
	}
	c['-'], c['.'], c['_'] = hyphen, dot, underscore
	return c
}()

// between reports whether a text begins and ends with characters of ends, has
// only those of all, and is not empty.
func between(s string, ends, all class) bool {
	for i := range len(s) {
		if classes[s[i]]&all == 0 {
			return false
		}
	}
	return s != "" && classes[s[0]]&ends != 0 && classes[s[len(s)-1]]&ends != 0
}

// KubeFinalizer reports the name of a finalizer that is neither one of Kubernetes'
// own nor in a domain.
func KubeFinalizer(path *field.Path, name string) field.ErrorList {
	switch {
	case strings.Contains(name, "/"), name == "kubernetes", name == metav1.FinalizerOrphanDependents, name == metav1.FinalizerDeleteDependents:
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")}
}
