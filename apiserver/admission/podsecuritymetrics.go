package admission

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
)

// PodSecurityMetrics counts decisions under upstream's names.
type PodSecurityMetrics struct {
	evaluations, exemptions, errors *prometheus.CounterVec
}

var _ metrics.Recorder = (*PodSecurityMetrics)(nil)

// NewPodSecurityMetrics makes the counters in a registry; nil is none.
func NewPodSecurityMetrics(r prometheus.Registerer) *PodSecurityMetrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &PodSecurityMetrics{
		evaluations: vec("pod_security_evaluations_total", "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
			"decision", "policy_level", "policy_version", "mode", "request_operation", "resource", "subresource"),
		exemptions: vec("pod_security_exemptions_total", "Number of exempt requests, not counting ignored or out of scope requests.", "request_operation", "resource", "subresource"),
		errors:     vec("pod_security_errors_total", "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.", "fatal", "request_operation", "resource", "subresource"),
	}
}

// about gives the labels of a request, with pods and the kinds that make pods
// told apart and no more.
func about(a psaapi.Attributes) (operation, resource, subresource string) {
	switch a.GetOperation() {
	case "CREATE":
		operation = "create"
	case "UPDATE":
		operation = "update"
	}
	resource = "controller"
	switch r := a.GetResource(); {
	case r.Group == "" && r.Resource == "pods":
		resource = "pod"
	case r.Group == "" && r.Resource == "namespaces":
		resource = "namespace"
	}
	return operation, resource, a.GetSubresource()
}

// RecordEvaluation implements metrics.Recorder.
func (m *PodSecurityMetrics) RecordEvaluation(d metrics.Decision, p psaapi.LevelVersion, mode metrics.Mode, a psaapi.Attributes) {
	version := p.Version.String()
	if newest := psaapi.GetAPIVersion(); !p.Version.Latest() && newest.Older(p.Version) {
		version = "future"
	}
	if p.Level == psaapi.LevelPrivileged {
		version = "latest" // all versions are the same
	}
	op, resource, sub := about(a)
	m.evaluations.WithLabelValues(string(d), string(p.Level), version, string(mode), op, resource, sub).Inc()
}

// RecordExemption implements metrics.Recorder.
func (m *PodSecurityMetrics) RecordExemption(a psaapi.Attributes) {
	op, resource, sub := about(a)
	m.exemptions.WithLabelValues(op, resource, sub).Inc()
}

// RecordError implements metrics.Recorder.
func (m *PodSecurityMetrics) RecordError(fatal bool, a psaapi.Attributes) {
	op, resource, sub := about(a)
	m.errors.WithLabelValues(strconv.FormatBool(fatal), op, resource, sub).Inc()
}
