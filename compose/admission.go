package compose

import (
	"time"

	"sagong/apiserver/admission"
	"sagong/apiserver/admission/quota"
)

// openAdmission chooses the rules that judge writes, with those that the server
// itself keeps state for.
func (s *server) openAdmission(d admission.Deps) error {
	s.podSecurity = admission.NewPodSecurityMetrics()
	security, err := admission.NewPodSecurity(s.system, s.hub, nil, s.podSecurity)
	if err != nil {
		return err
	}
	s.quota = quota.New(s.hub, time.Now)
	d.PodSecurity, d.Quota = &security, s.quota
	rules, err := admission.Choose(admission.All(d), s.cfg.EnableAdmission, s.cfg.DisableAdmission)
	if err != nil {
		return err
	}
	chain := admission.NewChain(rules...)
	chain.Metrics = admission.NewMetrics()
	s.admissionMetrics = chain.Metrics
	s.admission.Admission = chain
	return nil
}
