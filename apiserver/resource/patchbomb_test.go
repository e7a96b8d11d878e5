package resource_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/resource"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// A JSON patch that copies what it has copied doubles with every line: it is
// refused before it has eaten the memory.
func TestPatchOfCopies(t *testing.T) {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	defer s.Close()
	e := resource.New(resource.Options{Store: s, Scheme: object.NewScheme(kinds.All()...)})
	c := resource.Caller{User: &user.DefaultInfo{Name: "jane"}}
	d := object.Of[*corev1.ConfigMap](e.Scheme())
	in := resource.Target{Kind: e.Kind(d), Namespace: "ns"}
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}, Data: map[string]string{"a": strings.Repeat("x", 1000)}}
	if _, err := e.Create(context.Background(), c, in, o, &metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	in.Name = "c"
	var lines []string
	for range 20 {
		lines = append(lines, `{"op":"copy","from":"/data","path":"/data/x"}`, `{"op":"copy","from":"/data","path":"/data/y"}`)
	}
	_, _, err := e.Patch(context.Background(), c, in, resource.Patch{Type: types.JSONPatchType, Data: []byte("[" + strings.Join(lines, ",") + "]")}, &metav1.PatchOptions{})
	if status, ok := err.(apierrors.APIStatus); !ok || status.Status().Code != http.StatusUnprocessableEntity {
		t.Errorf("err %.300v", err)
	}
}
