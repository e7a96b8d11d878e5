package authz

import (
	"bytes"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func FuzzReadPolicies(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"*","namespace":"*","resource":"*","apiGroup":"*","readonly":true}}`))
	f.Add([]byte("# comment\n\n{\"user\":\"a\",\"resource\":\"pods\"}\n"))
	f.Add([]byte(`{"kind":"Policy","apiVersion":"abac.authorization.kubernetes.io/v1beta1","spec":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ReadPolicies("file", bytes.NewReader(data))
		if err != nil {
			return
		}
		_, _, _ = p.Authorize(t.Context(), authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "a"}, Verb: "get", Resource: "pods", ResourceRequest: true})
		_, _, _ = p.Rules(&user.DefaultInfo{Name: "a"}, "ns")
	})
}
