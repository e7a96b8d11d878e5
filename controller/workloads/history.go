package workloads

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const revisionHashLabel = appsv1.ControllerRevisionHashLabelKey

// templateGenerationLabel marks the pods of a DaemonSet with the number of the
// template they are made of, from before there were revisions.
const templateGenerationLabel = "pod-template-generation"

// history keeps the templates that a DaemonSet or StatefulSet has had, as
// ControllerRevisions that kubectl rollout history and undo read.
type history struct {
	revisions *reconcile.View[*appsv1.ControllerRevision]
}

func newHistory(h *reconcile.Hub) history {
	v := reconcile.ViewOf[*appsv1.ControllerRevision](h)
	reconcile.IndexOwners(v)
	return history{v}
}

// templatePatch is the patch by which kubectl restores a template.
func templatePatch(t *corev1.PodTemplateSpec) ([]byte, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	var template map[string]any
	if err := json.Unmarshal(body, &template); err != nil {
		return nil, err
	}
	template["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
}

// wantedRevision is a template about to be recorded.
type wantedRevision struct {
	owner    object.Object
	kind     *object.Definition
	selector labels.Selector
	labels   map[string]string
	data     []byte
	hash     string
	// labelled has the hash put on the revision under this key.
	labelled string
}

// sync makes the wanted revision the newest of its owner's, and returns it and
// the others, oldest first. errCollision means that the name is taken by another
// template: raise the collision count and come again.
func (h history) sync(ctx context.Context, w client.Client, want wantedRevision) (*appsv1.ControllerRevision, []*appsv1.ControllerRevision, error) {
	all, err := reconcile.Claim(ctx, w, h.revisions, want.owner, func(r *appsv1.ControllerRevision) bool {
		return want.selector.Matches(labels.Set(r.Labels))
	})
	if err != nil {
		return nil, nil, err
	}
	sortRevisions(all)
	next := int64(1)
	if len(all) > 0 {
		next = all[len(all)-1].Revision + 1
	}
	same := func(r *appsv1.ControllerRevision) bool { return bytes.Equal(r.Data.Raw, want.data) }
	// Somebody may have recorded the same template under another name; pods are
	// labelled with the name that its hash gives.
	name := revisionName(want.owner.GetName(), want.hash)
	i := lastIndex(all, func(r *appsv1.ControllerRevision) bool { return same(r) && r.Name == name })
	if i < 0 {
		i = lastIndex(all, same)
	}
	if i >= 0 {
		found := all[i]
		rest := slices.Delete(slices.Clone(all), i, i+1)
		if i == len(all)-1 {
			return found, rest, nil
		}
		renewed := found.DeepCopy()
		renewed.Revision = next
		if found, err = client.Update(ctx, w, renewed); err != nil {
			return nil, nil, fmt.Errorf("cannot renew revision: %w", err)
		}
		return found, rest, nil
	}
	l := map[string]string{}
	for k, v := range want.labels {
		l[k] = v
	}
	l[want.labelled] = want.hash
	fresh := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: want.owner.GetNamespace(), Name: name, Labels: l, Annotations: historyAnnotations(want.owner.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(want.owner, want.kind.GVK())},
		},
		Data:     runtime.RawExtension{Raw: want.data},
		Revision: next,
	}
	made, err := client.Create(ctx, w, fresh)
	if apierrors.IsAlreadyExists(err) {
		there, getErr := client.Get[*appsv1.ControllerRevision](ctx, w, want.owner.GetNamespace(), name)
		switch {
		case getErr != nil:
			return nil, nil, getErr
		case same(there):
			return nil, nil, fmt.Errorf("revision %s is not in view yet: %w", name, err)
		}
		return nil, nil, fmt.Errorf("%w: %s", errCollision, name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot record revision: %w", err)
	}
	return made, all, nil
}

var errCollision = fmt.Errorf("hash of revision collides")

func revisionName(owner, hash string) string {
	if len(owner) > 223 {
		owner = owner[:223]
	}
	return owner + "-" + hash
}

// historyAnnotations are those that kubectl shows as the cause of a change.
func historyAnnotations(a map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range a {
		if k != corev1.LastAppliedConfigAnnotation {
			out[k] = v
		}
	}
	return out
}

func sortRevisions(all []*appsv1.ControllerRevision) {
	slices.SortFunc(all, func(a, b *appsv1.ControllerRevision) int {
		if a.Revision != b.Revision {
			if a.Revision < b.Revision {
				return -1
			}
			return 1
		}
		if c := a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
}

func lastIndex[T any](all []T, f func(T) bool) int {
	for i, v := range slices.Backward(all) {
		if f(v) {
			return i
		}
	}
	return -1
}

// trim deletes the oldest revisions beyond a limit, but none in use.
func (h history) trim(ctx context.Context, w client.Client, old []*appsv1.ControllerRevision, limit int, used func(*appsv1.ControllerRevision) bool) error {
	var idle []*appsv1.ControllerRevision
	for _, r := range old {
		if !used(r) && r.DeletionTimestamp == nil {
			idle = append(idle, r)
		}
	}
	if len(idle) <= limit {
		return nil
	}
	var writes []client.Write
	for _, r := range idle[:len(idle)-limit] {
		writes = append(writes, deletion(h.revisions.Definition(), r))
	}
	for _, r := range w.Batch(ctx, writes) {
		if r.Err != nil && !apierrors.IsNotFound(r.Err) {
			return fmt.Errorf("cannot delete old revision: %w", r.Err)
		}
	}
	return nil
}

// dataHash is upstream's hash of a revision's data and the collision count.
func dataHash(data []byte, collisions int32) string {
	h := fnv.New32()
	h.Write(data)
	fmt.Fprint(h, collisions)
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}
