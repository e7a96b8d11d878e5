package conformance

import (
	"slices"
	"testing"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Objects are stored in the version that their definition says now, whoever wrote
// them when, and the definition says so.
func TestStorageVersionMigration(t *testing.T) {
	conform(t, "StorageVersionMigration", func(c *cluster) {
		migrate := func(name, group, resource string) {
			c.Helper()
			must(c.StoragemigrationV1().StorageVersionMigrations().Create(c.ctx, &storagemigrationv1.StorageVersionMigration{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec:       storagemigrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: group, Resource: resource}},
			}, metav1.CreateOptions{}))
		}
		ends := func(name string, how storagemigrationv1.MigrationConditionType) *storagemigrationv1.StorageVersionMigration {
			c.Helper()
			var m *storagemigrationv1.StorageVersionMigration
			c.eventually(name+" "+string(how), func() bool {
				m = must(c.StoragemigrationV1().StorageVersionMigrations().Get(c.ctx, name, metav1.GetOptions{}))
				return apimeta.IsStatusConditionTrue(m.Status.Conditions, string(how)) && apimeta.FindStatusCondition(m.Status.Conditions, "Running") == nil
			})
			return m
		}
		d := c.gates("v1")
		for _, name := range []string{"a", "b"} {
			must(c.objects(gates1).Namespace(ns).Create(c.ctx, gate1(name, "host1:8080"), metav1.CreateOptions{}))
		}
		must(c.definitions().Patch(c.ctx, d.Name, types.JSONPatchType, []byte(
			`[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]`), metav1.PatchOptions{}))
		c.settle(0)
		before := must(c.objects(gates2).Namespace(ns).Get(c.ctx, "a", metav1.GetOptions{})).GetResourceVersion()
		migrate("one", "stable.example.com", "gates")
		migrate("two", "stable.example.com", "gates")
		if m := ends("one", storagemigrationv1.MigrationSucceeded); m.Status.ResourceVersion == "" || m.Status.Conditions[0].Reason != "StorageVersionMigrationSucceeded" {
			t.Errorf("status %+v", m.Status)
		}
		ends("two", storagemigrationv1.MigrationSucceeded)
		d = must(c.definitions().Get(c.ctx, d.Name, metav1.GetOptions{}))
		if !slices.Equal(d.Status.StoredVersions, []string{"v2"}) || !slices.ContainsFunc(d.Status.Conditions, func(x apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return x.Type == apiextensionsv1.StorageMigrating && x.Status == apiextensionsv1.ConditionFalse && x.Reason == "MigrationSucceeded" &&
				x.Message == "The migration has succeeded and the stored versions have been updated"
		}) {
			t.Errorf("status of the definition: %+v", d.Status)
		}
		// What is stored needs no converter any more.
		must(c.definitions().Patch(c.ctx, d.Name, types.MergePatchType, []byte(`{"spec":{"conversion":{"strategy":"None","webhook":null}}}`), metav1.PatchOptions{}))
		c.settle(0)
		u := must(c.objects(gates2).Namespace(ns).Get(c.ctx, "a", metav1.GetOptions{}))
		if u.Object["host"] != "host1" || u.GetResourceVersion() == before {
			t.Errorf("stored as %v, revision before %s", u.Object, before)
		}

		migrate("built-in", "", "configmaps")
		ends("built-in", storagemigrationv1.MigrationSucceeded)
		migrate("nothing", "example.com", "nothings")
		if m := ends("nothing", storagemigrationv1.MigrationFailed); m.Status.Conditions[0].Message != "resource does not exist in discovery" {
			t.Errorf("status %+v", m.Status)
		}
	})
}
