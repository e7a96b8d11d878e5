package pod

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// FieldValue is what a fieldRef to a field of the pod's metadata or spec means,
// in an environment variable or a downwardAPI volume.
func FieldValue(p *corev1.Pod, path string) (string, error) {
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.annotations":
			return p.Annotations[key], nil
		case "metadata.labels":
			return p.Labels[key], nil
		}
		return "", fmt.Errorf("invalid subscript for field path %q", path)
	}
	switch path {
	case "metadata.annotations":
		return formatMap(p.Annotations), nil
	case "metadata.labels":
		return formatMap(p.Labels), nil
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "spec.nodeName":
		return p.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

// subscript splits "metadata.labels['key']".
func subscript(path string) (name, key string, ok bool) {
	name, rest, ok := strings.Cut(path, "['")
	if !ok || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return name, strings.TrimSuffix(rest, "']"), true
}

// formatMap writes one key="value" a line, sorted, as upstream does.
func formatMap(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	lines := make([]string, len(keys))
	for i, k := range keys {
		lines[i] = k + "=" + strconv.Quote(m[k])
	}
	return strings.Join(lines, "\n")
}

// ResourceValue is what a resourceFieldRef means: a request or limit of a
// container of the pod, in units of the divisor, rounded up. A missing limit is
// the node's allocatable.
func ResourceValue(p *corev1.Pod, container string, f *corev1.ResourceFieldSelector, allocatable corev1.ResourceList) (string, error) {
	if f.ContainerName != "" {
		container = f.ContainerName
	}
	m, ok := Find(p, container)
	if !ok {
		return "", fmt.Errorf("container %s not found", container)
	}
	which, name, _ := strings.Cut(f.Resource, ".")
	list := m.Resources.Limits
	if which == "requests" {
		list = m.Resources.Requests
	} else if which != "limits" {
		return "", fmt.Errorf("unsupported container resource : %v", f.Resource)
	}
	n := corev1.ResourceName(name)
	switch {
	case n == corev1.ResourceCPU, n == corev1.ResourceMemory, n == corev1.ResourceEphemeralStorage, strings.HasPrefix(name, corev1.ResourceHugePagesPrefix):
	default:
		return "", fmt.Errorf("unsupported container resource : %v", f.Resource)
	}
	q, has := list[n]
	if !has || q.IsZero() {
		if which == "limits" && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) {
			q = allocatable[n]
		}
	}
	divisor := f.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if n == corev1.ResourceCPU {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(divisor.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(divisor.Value()))), 10), nil
}
