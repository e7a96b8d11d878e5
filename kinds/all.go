// Package kinds lists every built-in kind.
package kinds

import (
	"sagong/kinds/admissionregistration"
	"sagong/kinds/apiextensions"
	"sagong/kinds/apiregistration"
	"sagong/kinds/apps"
	"sagong/kinds/authentication"
	"sagong/kinds/authorization"
	"sagong/kinds/autoscaling"
	"sagong/kinds/batch"
	"sagong/kinds/certificates"
	"sagong/kinds/coordination"
	"sagong/kinds/core"
	"sagong/kinds/discovery"
	"sagong/kinds/flowcontrol"
	"sagong/kinds/metrics"
	"sagong/kinds/networking"
	"sagong/kinds/node"
	"sagong/kinds/policy"
	"sagong/kinds/rbac"
	"sagong/kinds/resource"
	"sagong/kinds/scheduling"
	"sagong/kinds/storage"
	"sagong/kinds/storagemigration"
	"sagong/object"
)

// Workloads returns the definitions of the kinds that upstream serves only when
// its feature GenericWorkload is switched on.
func Workloads() []*object.Definition {
	return []*object.Definition{
		scheduling.Workload(),
		scheduling.PodGroup(),
	}
}

// All returns the definitions of all built-in kinds that are served whatever is
// switched on, freshly made, in the order discovery names them.
func All() []*object.Definition {
	return []*object.Definition{
		core.Binding(),
		core.ComponentStatus(),
		core.ConfigMap(),
		core.Endpoints(),
		core.Event(),
		core.LimitRange(),
		core.Namespace(),
		core.Node(),
		core.PersistentVolume(),
		core.PersistentVolumeClaim(),
		core.Pod(),
		core.PodTemplate(),
		core.ReplicationController(),
		core.ResourceQuota(),
		core.Secret(),
		core.Service(),
		core.ServiceAccount(),

		apiextensions.CustomResourceDefinition(),
		apiregistration.APIService(),

		apps.ControllerRevision(),
		apps.DaemonSet(),
		apps.Deployment(),
		apps.ReplicaSet(),
		apps.StatefulSet(),

		authentication.SelfSubjectReview(),
		authentication.TokenReview(),

		authorization.LocalSubjectAccessReview(),
		authorization.SelfSubjectAccessReview(),
		authorization.SelfSubjectRulesReview(),
		authorization.SubjectAccessReview(),

		autoscaling.HorizontalPodAutoscaler(),

		batch.CronJob(),
		batch.Job(),

		certificates.CertificateSigningRequest(),
		certificates.ClusterTrustBundle(),
		certificates.PodCertificateRequest(),

		networking.Ingress(),
		networking.IngressClass(),
		networking.IPAddress(),
		networking.NetworkPolicy(),
		networking.ServiceCIDR(),

		policy.PodDisruptionBudget(),

		rbac.ClusterRole(),
		rbac.ClusterRoleBinding(),
		rbac.Role(),
		rbac.RoleBinding(),

		storage.CSIDriver(),
		storage.CSINode(),
		storage.CSIStorageCapacity(),
		storage.StorageClass(),
		storage.VolumeAttachment(),
		storage.VolumeAttributesClass(),

		admissionregistration.MutatingAdmissionPolicy(),
		admissionregistration.MutatingAdmissionPolicyBinding(),
		admissionregistration.MutatingWebhookConfiguration(),
		admissionregistration.ValidatingAdmissionPolicy(),
		admissionregistration.ValidatingAdmissionPolicyBinding(),
		admissionregistration.ValidatingWebhookConfiguration(),

		scheduling.PriorityClass(),
		coordination.Lease(),
		node.RuntimeClass(),
		discovery.EndpointSlice(),
		flowcontrol.FlowSchema(),
		flowcontrol.PriorityLevelConfiguration(),

		resource.DeviceClass(),
		resource.DeviceTaintRule(),
		resource.ResourceClaim(),
		resource.ResourceClaimTemplate(),
		resource.ResourceSlice(),

		storagemigration.StorageVersionMigration(),

		metrics.NodeMetrics(),
		metrics.PodMetrics(),
	}
}
