package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// podLevelResource says what spec.resources of a pod may name.
func podLevelResource(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || isHugePage(name)
}

// native says whether Kubernetes itself gives the name a meaning.
func native(name string) bool {
	return !strings.Contains(name, "/") || strings.Contains(name, corev1.ResourceDefaultNamespacePrefix)
}

// extended says whether the name is that of a resource devices or
// administrators provide.
func extended(name string) bool {
	return !native(name) && !strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix)
}
