package core

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/podspec"
	"sagong/object"
)

// Pod defines core/v1 Pod.
func Pod() *object.Definition {
	proxyVerbs := []string{"create", "delete", "get", "patch", "update"}
	stream := []string{"create", "get"}
	podWrite := []string{"get", "patch", "update"}
	return object.Kind[*corev1.Pod]{
		Version: "v1", Kind: "Pod", Resource: "pods",
		ShortNames: []string{"po"}, Categories: []string{"all"},
		Namespaced: true, Status: true, Generation: true,
		Resets: map[string][]string{"status": {"metadata.deletionTimestamp", "metadata.ownerReferences"}},
		Owns: map[string][]string{
			"ephemeralcontainers": {"spec.ephemeralContainers"},
			"resize":              {"spec.containers.*.resources", "spec.containers.*.resizePolicy"},
		},
		New:     func() *corev1.Pod { return &corev1.Pod{} },
		NewList: func() runtime.Object { return &corev1.PodList{} },
		Subresources: []object.Subresource{
			{Name: "attach", Version: "v1", Kind: "PodAttachOptions", Verbs: stream},
			{Name: "binding", Version: "v1", Kind: "Binding", Verbs: []string{"create"}},
			{Name: "ephemeralcontainers", Version: "v1", Kind: "Pod", Verbs: podWrite},
			{Name: "eviction", Group: "policy", Version: "v1", Kind: "Eviction", Verbs: []string{"create"}},
			{Name: "exec", Version: "v1", Kind: "PodExecOptions", Verbs: stream},
			{Name: "log", Version: "v1", Kind: "Pod", Verbs: []string{"get"}},
			{Name: "portforward", Version: "v1", Kind: "PodPortForwardOptions", Verbs: stream},
			{Name: "proxy", Version: "v1", Kind: "PodProxyOptions", Verbs: proxyVerbs},
			{Name: "resize", Version: "v1", Kind: "Pod", Verbs: podWrite},
		},
		Fields: podFields,
		FieldLabels: object.FieldLabels{
			FieldNames: []string{
				"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
				"spec.hostNetwork", "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
			},
			FieldAliases: map[string]string{"spec.host": "spec.nodeName"},
		},
		Columns:              podColumns(),
		RowConditions:        podRowConditions,
		BeforeDelete:         podGrace,
		Default:              podspec.DefaultPod,
		PrepareCreate:        preparePodCreate,
		PrepareStatusUpdate:  preparePodStatus,
		Validate:             validatePodCreate,
		ValidateUpdate:       validatePodUpdate,
		ValidateStatusUpdate: validatePodStatus,
		Warnings:             podWarnings,
	}.Definition()
}

func podFields(p *corev1.Pod) fields.Set {
	ip := p.Status.PodIP
	ips := ip
	for i, e := range p.Status.PodIPs {
		if i == 0 {
			ip, ips = e.IP, e.IP
			continue
		}
		ips += "," + e.IP
	}
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             ip,
		"status.podIPs":            ips,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

// podGrace gives a pod its grace period: what the request asks for, else what
// its spec says; none when nothing of it can still run.
func podGrace(p *corev1.Pod, opts *metav1.DeleteOptions) bool {
	var seconds int64
	switch {
	case opts.GracePeriodSeconds != nil:
		seconds = *opts.GracePeriodSeconds
	case p.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *p.Spec.TerminationGracePeriodSeconds
	}
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		seconds = 0
	}
	if seconds < 0 {
		seconds = 1
	}
	opts.GracePeriodSeconds = &seconds
	return true
}
