package workloads

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// judgeFailure applies a Job's pod failure policy to a failed pod: the action of
// the first rule that matches (Count when none does), and for FailJob why.
func judgeFailure(policy *batchv1.PodFailurePolicy, p *corev1.Pod) (action batchv1.PodFailurePolicyAction, why string) {
	if policy == nil {
		return batchv1.PodFailurePolicyActionCount, ""
	}
	for i := range policy.Rules {
		rule := &policy.Rules[i]
		if on := rule.OnExitCodes; on != nil {
			if c := exitMatch(p, on); c != nil {
				return rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d",
					c.Name, p.Namespace, p.Name, c.State.Terminated.ExitCode, rule.Action, i)
			}
			continue
		}
		for _, want := range rule.OnPodConditions {
			for _, have := range p.Status.Conditions {
				if have.Type == want.Type && have.Status == want.Status {
					return rule.Action, fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", p.Namespace, p.Name, have.Type, rule.Action, i)
				}
			}
		}
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

// exitMatch returns the first container whose exit code a rule means.
func exitMatch(p *corev1.Pod, on *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, all := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range all {
			c := &all[i]
			if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 || (on.ContainerName != nil && *on.ContainerName != c.Name) {
				continue
			}
			in := slices.Contains(on.Values, c.State.Terminated.ExitCode)
			if in == (on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return c
			}
		}
	}
	return nil
}
