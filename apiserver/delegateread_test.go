package apiserver_test

import (
	"net/http"
	"net/url"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver"
)

func TestReadDelegated(t *testing.T) {
	s := apiserver.New(apiserver.Options{Delegate: func(gv schema.GroupVersion) http.Handler {
		if gv.Group != "external.metrics.k8s.io" {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/apis/external.metrics.k8s.io/v1beta1/namespaces/n/m" {
				w.WriteHeader(http.StatusForbidden)
				w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no","code":403}`))
				return
			}
			w.Write([]byte(r.URL.RawQuery))
		})
	}})
	read := func(path string) ([]byte, error) {
		return s.ReadDelegated(t.Context(), path, url.Values{"labelSelector": {"a=b"}})
	}
	if b, err := read("/apis/external.metrics.k8s.io/v1beta1/namespaces/n/m"); err != nil || string(b) != "labelSelector=a%3Db" {
		t.Errorf("%s %v", b, err)
	}
	if _, err := read("/apis/external.metrics.k8s.io/v1beta1/namespaces/n/other"); !apierrors.IsForbidden(err) {
		t.Errorf("%v", err)
	}
	_, err := read("/apis/custom.metrics.k8s.io/v1beta2/namespaces/n/pods/*/m")
	if !apierrors.IsNotFound(err) || err.Error() != "the server could not find the requested resource (get pods.custom.metrics.k8s.io *)" {
		t.Errorf("%v", err)
	}
}
