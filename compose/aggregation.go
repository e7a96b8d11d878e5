package compose

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/aggregator"
	"sagong/apiserver/openapi"
	"sagong/apiserver/webhookclient"
	"sagong/client"
)

// openAggregator lets other servers answer for groups of the API.
func (s *server) openAggregator(changed func()) {
	s.aggregator = aggregator.New(aggregator.Options{
		Hub: s.hub, Resolver: webhookclient.Services{Client: s.system}, Certificate: s.ids.proxyClient.GetClientCertificate,
		Changed: changed, ServeV2: openapi.ServeV2, Log: s.log.With("room", "api"),
	})
}

// publishAuthorities tells aggregated servers, in the ConfigMap that their
// libraries read, whose certificates name users and which proxy may name them in
// headers.
func (s *server) publishAuthorities(ctx context.Context) error {
	list := func(v ...string) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err) // strings always encode
		}
		return string(b)
	}
	want := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"},
		Data: map[string]string{
			"client-ca-file":                     string(s.ids.ca.CertPEM),
			"requestheader-client-ca-file":       string(s.ids.proxyCA.CertPEM),
			"requestheader-allowed-names":        list(proxyName),
			"requestheader-username-headers":     list("X-Remote-User"),
			"requestheader-uid-headers":          list("X-Remote-Uid"),
			"requestheader-group-headers":        list("X-Remote-Group"),
			"requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
		},
	}
	has, err := client.Get[*corev1.ConfigMap](ctx, s.system, want.Namespace, want.Name)
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, s.system, want)
		return err
	}
	if err != nil {
		return err
	}
	next := has.DeepCopy()
	if next.Data == nil {
		next.Data = map[string]string{}
	}
	changed := false
	for k, v := range want.Data {
		changed = changed || next.Data[k] != v
		next.Data[k] = v
	}
	if changed {
		_, err = client.Update(ctx, s.system, next)
	}
	return err
}
