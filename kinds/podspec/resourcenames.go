package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
)

func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// podLevelResource says what spec.resources of a pod may name.
func podLevelResource(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || isHugePage(name)
}

// Native says whether Kubernetes itself gives the name a meaning.
func Native(name string) bool {
	return !strings.Contains(name, "/") || strings.Contains(name, corev1.ResourceDefaultNamespacePrefix)
}

// extended says whether the name is that of a resource devices or
// administrators provide.
func extended(name string) bool {
	return !Native(name) && !strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix)
}

// ValidExtended says whether an extended resource's name also works in quotas,
// where it carries a prefix.
func ValidExtended(name string) bool {
	return extended(name) && len(utilvalidation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

// MayOvercommit says whether limits may add up to more than there is.
func MayOvercommit(name string) bool {
	return Native(name) && !isHugePage(corev1.ResourceName(name))
}

func forContainers(name string) bool {
	return name == "cpu" || name == "memory" || name == "ephemeral-storage" || isHugePage(corev1.ResourceName(name))
}

// counted are resources that come in whole pieces: objects.
var counted = []corev1.ResourceName{
	corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
	corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
	corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers,
}

// measured are resources that come in any amount.
var measured = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage, corev1.ResourceRequestsStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
}

func integer(name string) bool {
	for _, n := range counted {
		if string(n) == name {
			return true
		}
	}
	return false
}

// Standard says whether a name without a domain is one of Kubernetes' own.
func Standard(name string) bool {
	for _, n := range measured {
		if string(n) == name {
			return true
		}
	}
	return integer(name) || isHugePage(corev1.ResourceName(name)) || strings.HasPrefix(name, corev1.ResourceRequestsHugePagesPrefix)
}
