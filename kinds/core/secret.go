package core

import (
	"crypto/tls"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/fill"
	"sagong/object"
)

// Secret defines core/v1 Secret.
func Secret() *object.Definition {
	doc := corev1.Secret{}.SwaggerDoc()
	return object.Kind[*corev1.Secret]{
		Version: "v1", Kind: "Secret", Resource: "secrets", Namespaced: true,
		New:        func() *corev1.Secret { return &corev1.Secret{} },
		NewList:    func() runtime.Object { return &corev1.SecretList{} },
		Fields:     func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} },
		FieldNames: []string{"type"},
		Columns: []object.TypedColumn[*corev1.Secret]{
			object.NameColumn[*corev1.Secret](),
			object.StringColumn("Type", doc["type"], func(s *corev1.Secret) string { return string(s.Type) }),
			object.IntColumn("Data", doc["data"], func(s *corev1.Secret) int64 { return int64(len(s.Data)) }).Text(),
			object.AgeColumn[*corev1.Secret](),
		},
		Default:        defaultSecret,
		Validate:       validateSecret,
		ValidateUpdate: validateSecretUpdate,
		Warnings:       secretWarnings,
	}.Definition()
}

// secretWarnings warns of a certificate that is not that of its key.
func secretWarnings(s, _ *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// defaultSecret also moves stringData, which exists for writing only, to data.
func defaultSecret(s *corev1.Secret) {
	fill.Zero(&s.Type, corev1.SecretTypeOpaque)
	for k, v := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}
