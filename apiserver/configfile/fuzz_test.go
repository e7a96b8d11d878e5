package configfile

import (
	"testing"

	"k8s.io/apiserver/pkg/apis/apiserver"
)

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{issuer: {url: https://a, audiences: [b]}}]\n",
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{type: Webhook, name: w, webhook: {timeout: 3s}}]\n",
		"apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{resources: [secrets], providers: [{identity: {}}]}]\n",
		"apiVersion: apiserver.config.k8s.io/v1beta1\nkind: TracingConfiguration\nsamplingRatePerMillion: 1\n",
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: [{name: a, configuration: {x: y}}]\n",
		"a: &a [*a]", "{", "null",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = Decode[*apiserver.AuthenticationConfiguration](data)
		_, _ = Decode[*apiserver.AuthorizationConfiguration](data)
		_, _ = Decode[*apiserver.EncryptionConfiguration](data)
		_, _ = Decode[*apiserver.TracingConfiguration](data)
		_, _ = Decode[*apiserver.AdmissionConfiguration](data)
	})
}
