package admission

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"sagong/apiserver/resource"
	"sagong/apiserver/turn"
	"sagong/client"
	"sagong/object"
)

// ServiceAccount gives each pod an account, and a token of it as files.
type ServiceAccount struct{ Client client.Client }

const (
	tokenMountPath    = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolumePrefix = "kube-api-access-"
	// tokenSeconds is upstream's: an hour, and a little to tell these tokens
	// from those that asked for an hour.
	tokenSeconds = 3607
	rootCAName   = "kube-root-ca.crt"

	defaultAccount = "default"
	// defaultAccountTime is how long the first pods of a namespace wait for its
	// account; upstream asks ten times, 0.1 to 0.2 s apart.
	defaultAccountTime = time.Second
)

// Name implements Plugin.
func (ServiceAccount) Name() string { return "ServiceAccount" }

// Admit implements Mutator.
func (s ServiceAccount) Admit(ctx context.Context, a *resource.Attributes) error {
	if !onPodCreate(a) {
		return nil
	}
	pod := a.Object.(*corev1.Pod)
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil // checked by Validate
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	sa, err := s.account(ctx, pod)
	if sa == nil && pod.Spec.ServiceAccountName == defaultAccount && s.awaitDefault(ctx, pod.Namespace) {
		sa, err = s.account(ctx, pod)
	}
	if err != nil {
		return forbidden(a, "error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err)
	}
	if automount(sa, pod) {
		mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 && len(sa.ImagePullSecrets) > 0 {
		pod.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), sa.ImagePullSecrets...)
	}
	return nil
}

func (s ServiceAccount) account(ctx context.Context, pod *corev1.Pod) (*corev1.ServiceAccount, error) {
	sa, err := client.Get[*corev1.ServiceAccount](ctx, s.Client, pod.Namespace, pod.Spec.ServiceAccountName)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("serviceaccount %q not found", pod.Spec.ServiceAccountName)
	}
	return sa, err
}

// awaitDefault waits until a namespace has the account that a controller gives
// every namespace a moment after it was created.
func (s ServiceAccount) awaitDefault(ctx context.Context, namespace string) bool {
	ctx, cancel := context.WithTimeout(ctx, defaultAccountTime)
	defer cancel()
	const named = "metadata.name=" + defaultAccount
	list, from, err := client.ListOf[*corev1.ServiceAccount](ctx, s.Client, namespace, client.ListOptions{FieldSelector: named})
	if err != nil || len(list) > 0 {
		return err == nil
	}
	w, err := s.Client.Watch(ctx, object.Of[*corev1.ServiceAccount](s.Client.Scheme()), namespace, client.WatchOptions{FieldSelector: named, From: from})
	if err != nil {
		return false
	}
	defer w.Close()
	turn.Yield(ctx)
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return false
		}
		for _, e := range events {
			if e.Type == client.Added || e.Type == client.Modified {
				return true
			}
		}
	}
}

func automount(sa *corev1.ServiceAccount, pod *corev1.Pod) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken
}

// volumeSuffix looks random, but is the same for all pods of one controller, and
// for those of one account that have none: their containers are then alike and
// share their memory.
func volumeSuffix(pod *corev1.Pod) string {
	h := fnv.New32a()
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		h.Write([]byte(owner.UID))
	} else {
		h.Write([]byte(pod.Spec.ServiceAccountName))
	}
	suffix := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10) + "00000")
	return suffix[:suffixLength]
}

const suffixLength = 5

func mountToken(pod *corev1.Pod) {
	var name string
	for _, v := range pod.Spec.Volumes {
		if len(v.Name) > len(tokenVolumePrefix) && v.Name[:len(tokenVolumePrefix)] == tokenVolumePrefix {
			name = v.Name
		}
	}
	fresh := name == ""
	if fresh {
		name = tokenVolumePrefix + volumeSuffix(pod)
	}
	used := false
	mount := func(c *corev1.Container) {
		for _, m := range c.VolumeMounts {
			if m.MountPath == tokenMountPath {
				return
			}
		}
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath})
		used = true
	}
	for i := range pod.Spec.InitContainers {
		mount(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		mount(&pod.Spec.Containers[i])
	}
	if !used || !fresh {
		return
	}
	mode, seconds := int32(0o644), int64(tokenSeconds)
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAName},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		}},
	}})
}

// Validate implements Validator: a mirror pod may use nothing of the API, and
// some accounts say which Secrets their pods may use.
func (s ServiceAccount) Validate(ctx context.Context, a *resource.Attributes) error {
	added := a.Operation == resource.Update && a.Subresource == "ephemeralcontainers" && a.Definition.GR() == podResource
	if !onPodCreate(a) && !added {
		return nil
	}
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		sa, err := s.account(ctx, pod)
		if err != nil {
			return forbidden(a, "error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err)
		}
		if sa.Annotations[enforceMountableSecrets] == "true" {
			return mountableSecrets(a, sa, pod)
		}
		return nil
	}
	if pod.Spec.ServiceAccountName != "" {
		return forbidden(a, "a mirror pod may not reference service accounts")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			return forbidden(a, "a mirror pod may not reference secrets")
		}
		if v.PersistentVolumeClaim != nil {
			return forbidden(a, "a mirror pod may not reference persistentvolumeclaims")
		}
		if v.Projected != nil {
			for _, src := range v.Projected.Sources {
				if src.ServiceAccountToken != nil {
					return forbidden(a, "a mirror pod may not use ServiceAccountToken volume projections")
				}
			}
		}
	}
	return nil
}
