package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ShouldRestart says whether a container that ended with an exit code is run
// again: by its own rules and policy when it has any, else by the pod's.
func ShouldRestart(p *corev1.Pod, m Member, exitCode int) bool {
	for _, r := range m.RestartPolicyRules {
		if m.Class != Ephemeral && matches(r, exitCode) {
			return true
		}
	}
	policy := p.Spec.RestartPolicy
	switch {
	case m.Class == Sidecar:
		return true
	case m.Class == Ephemeral:
		return false
	case m.RestartPolicy != nil:
		policy = corev1.RestartPolicy(*m.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return m.Class != Init || exitCode != 0
}

func matches(r corev1.ContainerRestartRule, exitCode int) bool {
	if r.ExitCodes == nil {
		return false
	}
	in := slices.Contains(r.ExitCodes.Values, int32(exitCode))
	switch r.ExitCodes.Operator {
	case corev1.ContainerRestartRuleOnExitCodesOpIn:
		return in
	case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
		return !in
	}
	return false
}

// restartsOnFailure says whether a container that the node kills because of a
// probe is started again.
func restartsOnFailure(p *corev1.Pod, m Member) bool { return ShouldRestart(p, m, 137) }

// nextStart is when the attempt after last may begin, and the back-off that
// the new attempt carries on. The delay starts at nothing, then doubles from
// BackoffInitial to BackoffMax, and is forgotten after an attempt that ran for
// twice BackoffMax. An attempt that the node itself ended counts its delay
// from the end of the one before, as upstream does.
func nextStart(c *Container, s Settings) (at time.Time, backoff time.Duration) {
	n := len(c.Attempts)
	last := &c.Attempts[n-1]
	began := last.StartedAt
	if began.IsZero() {
		began = last.CreatedAt
	}
	if last.Backoff <= 0 || !began.IsZero() && last.FinishedAt.Sub(began) > 2*s.BackoffMax {
		return time.Time{}, s.BackoffInitial
	}
	from := last.FinishedAt
	if last.Killed {
		from = time.Time{}
		if n > 1 {
			from = c.Attempts[n-2].FinishedAt
		}
	}
	backoff = min(2*last.Backoff, s.BackoffMax)
	if from.IsZero() {
		return from, backoff
	}
	return from.Add(last.Backoff), backoff
}
