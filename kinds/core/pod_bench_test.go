package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

// benchPod is what a Deployment's pod looks like after admission.
func benchPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-7d4b9-x2x", Namespace: "default", Labels: map[string]string{"app": "web", "pod-template-hash": "7d4b9"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "default",
			Containers: []corev1.Container{{
				Name: "web", Image: "nginx:1", Ports: []corev1.ContainerPort{{ContainerPort: 80}},
				Env:          []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
				Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")}, Limits: corev1.ResourceList{"memory": resource.MustParse("64Mi")}},
				VolumeMounts: []corev1.VolumeMount{{Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			}}}}},
			Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}},
		},
	}
}

// BenchmarkPodCreate is what a pod's rules add to each create.
func BenchmarkPodCreate(b *testing.B) {
	d := Pod()
	pods := make([]object.Object, b.N)
	for i := range pods {
		pods[i] = benchPod()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, p := range pods {
		d.Default(p)
		d.PrepareCreate(b.Context(), p)
		if errs := d.Validate(p); len(errs) > 0 {
			b.Fatal(errs)
		}
		d.Warnings(p, nil)
	}
}

// BenchmarkPodStatus is what they add to each report of the node agent.
func BenchmarkPodStatus(b *testing.B) {
	d := Pod()
	old := benchPod()
	d.Default(old)
	b.ReportAllocs()
	for b.Loop() {
		p := *old
		d.PrepareStatusUpdate(b.Context(), &p, old)
		d.ValidateStatusUpdate(&p, old)
	}
}
