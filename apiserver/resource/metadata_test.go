package resource

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestPlainMetadata holds the quick checks of metadata against the library's, for
// metadata of which each part is right or wrong at random.
func TestPlainMetadata(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	// Mostly the first few, which are right.
	text := func(right ...string) string {
		if r.IntN(12) > 0 {
			return pick(right...)
		}
		return pick("", "/", "a/", "/a", "a/b/c", "-", "a-", "A", "a_b", "a.b", "a..b", "é", "a b", "\n", strings.Repeat("x", 63), strings.Repeat("x", 64),
			strings.Repeat("x", 254), strings.Repeat("y.", 100)+"z/a", "Event", "v1", "orphan", "foregroundDeletion", "EXAMPLE.com/a", "x/"+strings.Repeat("n", 64))
	}
	large := strings.Repeat("z", 130<<10)
	var none, one *bool = nil, new(bool)
	yes := true
	meta := func() *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: text("web", "web-1", "a.b"), Namespace: text("default", "kube-system"), UID: types.UID(pick("u", "v")),
			ResourceVersion: pick("1", "2", ""), Generation: int64(r.IntN(9) - r.IntN(2)), CreationTimestamp: metav1.Unix(int64(r.IntN(2)), 0),
		}}
		if r.IntN(8) == 0 {
			now := metav1.NewTime(time.Unix(9, 0))
			p.DeletionTimestamp = &now
		}
		if r.IntN(8) == 0 {
			grace := int64(3)
			p.DeletionGracePeriodSeconds = &grace
		}
		for range r.IntN(3) {
			metav1.SetMetaDataLabel(&p.ObjectMeta, text("app", "example.com/app"), text("web", "", "v1.2"))
			metav1.SetMetaDataAnnotation(&p.ObjectMeta, text("note", "example.com/note"), pick("x", "\x00", large))
			p.Finalizers = append(p.Finalizers, text("example.com/f", "orphan", "foregroundDeletion"))
			p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{
				APIVersion: text("v1", "apps/v1"), Kind: text("Job", "Pod"), Name: text("n"), UID: types.UID(text("u")),
				Controller: []*bool{none, one, &yes, &yes}[r.IntN(4)],
			})
			p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{
				Manager: text("kubectl", strings.Repeat("m", 128+r.IntN(3)/2)), Operation: metav1.ManagedFieldsOperationType(text("Update", "Apply")),
				FieldsType: text("FieldsV1"), Subresource: text("status", strings.Repeat("s", 256+r.IntN(3)/2)),
			})
		}
		return p
	}
	plain, changes := 0, 0
	const rounds = 8000
	for range rounds {
		old, now := meta(), meta()
		namespaced := r.IntN(8) > 0
		if !namespaced && r.IntN(2) == 0 {
			now.Namespace = ""
		}
		if r.IntN(2) == 0 {
			now.Name, now.Namespace, now.UID, now.CreationTimestamp, now.Generation = old.Name, old.Namespace, old.UID, old.CreationTimestamp, old.Generation+1
		}
		if !plainMetadata(now, namespaced) {
			continue
		}
		plain++
		if errs := validation.ValidateObjectMetaAccessor(now, namespaced, nameAccepted, metadataPath); len(errs) > 0 && now.Name != "" {
			t.Fatalf("%+v: %v", now.ObjectMeta, errs)
		}
		if !plainChange(now, old) {
			continue
		}
		changes++
		if errs := validation.ValidateObjectMetaAccessorUpdate(now, old, metadataPath); len(errs) > 0 {
			t.Fatalf("%+v after %+v: %v", now.ObjectMeta, old.ObjectMeta, errs)
		}
	}
	if plain < rounds/10 || changes < rounds/50 {
		t.Errorf("of %d only %d were plain, %d changes", rounds, plain, changes)
	}
	for range rounds {
		name := text("a", "a-b") + text("", "x")
		if got, want := nameIsDNSSubdomain(name, false), validation.NameIsDNSSubdomain(name, false); len(got) != len(want) {
			t.Fatalf("%q: %v, want %v", name, got, want)
		}
	}
}
