package identity

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	lastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	invalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
	// day is the form of the days in these labels.
	day = "2006-01-02"
	// TokenTracking is the ConfigMap in kube-system that says, as TrackedSince, since
	// when the use of tokens in Secrets is written down.
	TokenTracking = "kube-apiserver-legacy-service-account-token-tracking"
	TrackedSince  = "since"
	// recheck is when to look again at a token that something else keeps.
	recheck = 24 * time.Hour
)

type legacyTokens struct {
	secrets  *reconcile.View[*corev1.Secret]
	accounts *reconcile.View[*corev1.ServiceAccount]
	period   time.Duration
	uses     func(p *corev1.Pod, f func(resource, name string))
}

// NewLegacyTokens returns the controller that marks tokens in Secrets as invalid
// which their account lists, no pod uses and nobody has used for a period, and
// deletes them when nobody has minded for another. secrets is a SecretsOfType;
// uses calls f with all that a pod refers to.
func NewLegacyTokens(h *reconcile.Hub, secrets *reconcile.View[*corev1.Secret], period time.Duration, uses func(p *corev1.Pod, f func(resource, name string))) reconcile.Controller {
	return &legacyTokens{secrets, reconcile.ViewOf[*corev1.ServiceAccount](h), period, uses}
}

func (*legacyTokens) Name() string { return "legacy-serviceaccount-token-cleaner" }

func (c *legacyTokens) Inputs() []reconcile.Input {
	return []reconcile.Input{
		reconcile.Self(c.secrets),
		reconcile.On(c.accounts, func(old, now *corev1.ServiceAccount, enqueue func(object.Key)) {
			if now == nil {
				return
			}
			for _, r := range now.Secrets {
				if old == nil || !slices.Contains(old.Secrets, r) {
					enqueue(object.Key{Namespace: now.Namespace, Name: r.Name})
				}
			}
		}),
	}
}

func (c *legacyTokens) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.secrets.Definition().GVK().GroupKind(), Field: "label " + invalidSinceLabel}}
}

// over is when a period after a day is over, with all of the day.
func (c *legacyTokens) over(since time.Time) time.Time { return since.AddDate(0, 0, 1).Add(c.period) }

func (c *legacyTokens) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	s, ok := c.secrets.Get(key.Namespace, key.Name)
	if !ok || s.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	tracked, err := client.Get[*corev1.ConfigMap](ctx, w, metav1.NamespaceSystem, TokenTracking)
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, err
	}
	if err != nil {
		return reconcile.Result{After: recheck}, nil // it is being written
	}
	since, err := time.Parse(day, tracked.Data[TrackedSince])
	if err != nil {
		return reconcile.Result{After: recheck}, nil
	}
	due := c.over(since)
	later := func(t time.Time) {
		if t.After(due) {
			due = t
		}
	}
	// A moment more: what is of exactly that age is kept.
	later(s.CreationTimestamp.Add(c.period + time.Second))
	if text, ok := s.Labels[lastUsedLabel]; ok {
		used, err := time.Parse(day, text)
		if err != nil {
			return reconcile.Result{}, nil // nobody knows when it was used
		}
		later(c.over(used))
	}
	invalid, unmarked := time.Parse(day, s.Labels[invalidSinceLabel])
	if unmarked == nil {
		later(c.over(invalid))
	}
	now := time.Now().UTC()
	if wait := due.Sub(now); wait > 0 {
		return reconcile.Result{After: wait}, nil
	}
	if sa, ok := c.accounts.Get(s.Namespace, s.Annotations[corev1.ServiceAccountNameKey]); !ok || !lists(sa, s) {
		return reconcile.Result{}, nil // a person may have made it
	}
	if mounted, err := c.mounted(ctx, w, s); mounted || err != nil {
		return reconcile.Result{After: recheck}, err
	}
	if unmarked != nil {
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": s.UID, "labels": map[string]string{invalidSinceLabel: now.Format(day)}}})
		if err != nil {
			return reconcile.Result{}, err
		}
		_, err = client.PatchOf[*corev1.Secret](ctx, w, s.Namespace, s.Name, client.Patch{Type: types.MergePatchType, Data: body})
		return reconcile.Result{}, gone(err)
	}
	err = client.Delete[*corev1.Secret](ctx, w, s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &s.ResourceVersion}})
	if apierrors.IsConflict(err) {
		err = nil // the view brings what is newer
	}
	return reconcile.Result{}, gone(err)
}

// lists says whether a Secret is one of those of its account.
func lists(sa *corev1.ServiceAccount, s *corev1.Secret) bool {
	if uid := s.Annotations[corev1.ServiceAccountUIDKey]; uid != "" && uid != string(sa.UID) {
		return false
	}
	return slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == s.Name })
}

func (c *legacyTokens) mounted(ctx context.Context, w client.Client, s *corev1.Secret) (found bool, err error) {
	pods, _, err := client.ListOf[*corev1.Pod](ctx, w, s.Namespace, client.ListOptions{})
	for _, p := range pods {
		c.uses(p, func(resource, name string) { found = found || resource == "secrets" && name == s.Name })
	}
	return found, err
}
