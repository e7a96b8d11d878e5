package remote_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/rest"

	"sagong/apiserver"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/clienttest"
	"sagong/client/remote"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

func TestSuite(t *testing.T) {
	clienttest.Run(t, func(t *testing.T) client.Client {
		s := store.OpenMemory(store.Options{Tag: resource.Tag})
		scheme := object.NewScheme(kinds.All()...)
		e := resource.New(resource.Options{Store: s, Scheme: scheme, Fields: object.NewFieldManagers()})
		srv := apiserver.New(apiserver.Options{Engine: e})
		hs := httptest.NewServer(srv)
		t.Cleanup(func() {
			srv.Shutdown(context.Background())
			hs.Close()
			s.Close()
		})
		c, err := remote.New(&rest.Config{Host: hs.URL}, scheme, "remote-test")
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}
