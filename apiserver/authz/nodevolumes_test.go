package authz

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/client/fake"
	"sagong/kinds"
	"sagong/kinds/storage"
	"sagong/object"
	"sagong/reconcile"
)

// What a node may do with volumes and claims follows from the pods bound to it
// and from where volumes lie.
func TestNodeAndVolumes(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}}
	pod.Spec.NodeName = "n1"
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "used"}}}}
	volume := func(name, node, claim string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{storage.LocalNodeLabel: node}},
			Spec:       corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "default", Name: claim}},
		}
	}
	c := fake.New(object.NewScheme(kinds.All()...))
	for _, o := range []object.Object{pod, volume("used", "", "used"), volume("here", "n1", "other"), volume("there", "n2", "other")} {
		if err := c.Seed(o); err != nil {
			t.Fatal(err)
		}
	}
	hub := reconcile.NewHub(c, slog.New(slog.DiscardHandler))
	n := NewNode(hub)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); c.Close() })
	for _, synced := range []func(context.Context) error{n.pods.Synced, n.volumes.Synced} {
		if err := synced(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(verb, res, sub, name, selector string) bool {
		a := authorizer.AttributesRecord{
			User: &user.DefaultInfo{Name: "system:node:n1", Groups: []string{user.NodesGroup}}, Verb: verb, Resource: res, Subresource: sub, Name: name, ResourceRequest: true,
		}
		if res == "persistentvolumeclaims" {
			a.Namespace = "default"
		}
		if selector != "" {
			l, err := labels.Parse(selector)
			if err != nil {
				t.Fatal(err)
			}
			a.LabelSelectorRequirements, _ = l.Requirements()
		}
		d, _, _ := n.Authorize(t.Context(), a)
		return d == authorizer.DecisionAllow
	}
	for _, x := range []struct {
		verb, res, sub, name, selector string
		want                           bool
	}{
		{"get", "persistentvolumes", "", "used", "", true},
		{"get", "persistentvolumes", "", "here", "", true},
		{"get", "persistentvolumes", "", "there", "", false},
		{"get", "persistentvolumes", "", "none", "", false},
		{"update", "persistentvolumes", "", "here", "", true},
		{"update", "persistentvolumes", "", "used", "", false},
		{"update", "persistentvolumes", "status", "here", "", false},
		{"delete", "persistentvolumes", "", "here", "", false},
		{"create", "persistentvolumes", "", "", "", false},
		{"list", "persistentvolumes", "", "", storage.LocalNodeLabel + "=n1", true},
		{"watch", "persistentvolumes", "", "", storage.LocalNodeLabel + "=n1,a=b", true},
		{"list", "persistentvolumes", "", "", storage.LocalNodeLabel + "=n2", false},
		{"list", "persistentvolumes", "", "", storage.LocalNodeLabel + " in (n1,n2)", false},
		{"list", "persistentvolumes", "", "", storage.LocalNodeLabel, false},
		{"list", "persistentvolumes", "", "", "", false},
		{"get", "persistentvolumeclaims", "", "used", "", true},
		{"update", "persistentvolumeclaims", "", "used", "", false},
		{"update", "persistentvolumeclaims", "status", "used", "", true},
		{"update", "persistentvolumeclaims", "status", "other", "", false},
		{"delete", "persistentvolumeclaims", "status", "used", "", false},
	} {
		if got := ask(x.verb, x.res, x.sub, x.name, x.selector); got != x.want {
			t.Errorf("%s %s/%s %s %q: %v, want %v", x.verb, x.res, x.sub, x.name, x.selector, got, x.want)
		}
	}
}
