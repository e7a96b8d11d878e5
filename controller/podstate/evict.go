package podstate

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

// Evict says of a pod why it is disrupted, and deletes it. One that is no longer
// there is no error.
func Evict(ctx context.Context, w client.Client, p *corev1.Pod, reason, message string) error {
	next := p.DeepCopy()
	if SetCondition(&next.Status, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: p.Generation,
		Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(time.Now()),
	}) {
		if _, err := client.UpdateStatus(ctx, w, next); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		}
	}
	err := client.Delete[*corev1.Pod](ctx, w, p.Namespace, p.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot evict pod: %w", err)
	}
	return nil
}
