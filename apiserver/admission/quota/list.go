package quota

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// add adds n times from (1 or -1) to the resources of to that it has already.
func add(to, from corev1.ResourceList, n int) {
	for name, q := range from {
		have, ok := to[name]
		if !ok {
			continue
		}
		if n < 0 {
			have.Sub(q)
		} else {
			have.Add(q)
		}
		to[name] = have
	}
}

// zeros has the same names, all nothing.
func zeros(names corev1.ResourceList) corev1.ResourceList {
	l := make(corev1.ResourceList, len(names))
	for name := range names {
		l[name] = resource.Quantity{Format: resource.DecimalSI}
	}
	return l
}

// rise is what a list holds above another, leaving out what does not rise.
func rise(now, was corev1.ResourceList) corev1.ResourceList {
	l := corev1.ResourceList{}
	for name, q := range now {
		q = q.DeepCopy()
		if before, ok := was[name]; ok {
			q.Sub(before)
		}
		if q.Sign() > 0 {
			l[name] = q
		}
	}
	return l
}

func equal(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		if o, ok := b[name]; !ok || o.Cmp(q) != 0 {
			return false
		}
	}
	return true
}

func clone(l corev1.ResourceList) corev1.ResourceList {
	c := make(corev1.ResourceList, len(l))
	for name, q := range l {
		c[name] = q.DeepCopy()
	}
	return c
}

// text is "cpu=1,memory=2Gi", as upstream's errors have it.
func text(l corev1.ResourceList) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		q := l[name]
		parts = append(parts, string(name)+"="+q.String())
	}
	return strings.Join(parts, ",")
}
