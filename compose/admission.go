package compose

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sagong/apiserver/admission"
	"sagong/apiserver/admission/quota"
)

// openAdmission chooses the rules that judge writes, with those that the server
// itself keeps state for.
func (s *server) openAdmission(d admission.Deps) error {
	configured, err := readAdmissionConfig(s.cfg.AdmissionConfig)
	if err != nil {
		return err
	}
	security, err := admission.NewPodSecurity(s.system, s.hub, configured.podSecurity, admission.NewPodSecurityMetrics(s.metrics.registry))
	if err != nil {
		return err
	}
	s.quota = quota.New(s.hub, time.Now)
	if configured.quota != nil {
		s.quota.Limit(configured.quota)
	}
	d.PodSecurity, d.Quota = &security, s.quota
	d.NodeSelectors, d.Tolerations, d.EventLimits = configured.nodeSelectors, configured.tolerations, configured.events
	d.Images = configured.images
	if d.Images == nil && slices.Contains(s.cfg.EnableAdmission, "ImagePolicyWebhook") {
		return errors.New("cannot use ImagePolicyWebhook, which --admission-control-config-file configures: no config specified")
	}
	if slices.Contains(s.cfg.EnableAdmission, "EventRateLimit") {
		if err := admission.ValidateEventLimits(d.EventLimits).ToAggregate(); err != nil {
			return fmt.Errorf("cannot use EventRateLimit, which --admission-control-config-file configures: %w", err)
		}
	}
	rules, err := admission.Choose(admission.All(d), s.cfg.EnableAdmission, s.cfg.DisableAdmission)
	if err != nil {
		return err
	}
	chain := admission.NewChain(rules...)
	chain.Metrics = admission.NewMetrics(s.metrics.registry)
	s.admission.Admission = chain
	return nil
}
