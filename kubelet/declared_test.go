package kubelet_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sagong/client"
)

// The node names the features that it has, and takes on no pod that needs others.
func TestNodeDeclaresWhatItHas(t *testing.T) {
	m := newMachine(t)
	p := newPod("web", "a")
	never := corev1.ContainerRestartPolicyNever
	p.Spec.Containers[0].RestartPolicy = &never
	p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
	}}
	m.create(p)
	m.await("web", "refused", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "PodFeatureUnsupported" &&
			p.Status.Message == "Pod was rejected: Pod requires node features that are not available: RestartAllContainersOnContainerExits"
	})
	n, err := client.Get[*corev1.Node](t.Context(), m.api, "", "n1")
	want := []string{"ExtendWebSocketsToKubelet", "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"}
	if err != nil || !slices.Equal(n.Status.DeclaredFeatures, want) {
		t.Errorf("declares %v, %v", n.Status.DeclaredFeatures, err)
	}
}
