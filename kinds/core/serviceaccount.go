package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// ServiceAccount defines core/v1 ServiceAccount.
func ServiceAccount() *object.Definition {
	return object.Kind[*corev1.ServiceAccount]{
		Version: "v1", Kind: "ServiceAccount", Resource: "serviceaccounts", ShortNames: []string{"sa"}, Namespaced: true,
		New:     func() *corev1.ServiceAccount { return &corev1.ServiceAccount{} },
		NewList: func() runtime.Object { return &corev1.ServiceAccountList{} },
		Subresources: []object.Subresource{
			{Name: "token", Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest", Verbs: []string{"create"}},
		},
		Columns: []object.TypedColumn[*corev1.ServiceAccount]{
			object.NameColumn[*corev1.ServiceAccount](),
			object.AgeColumn[*corev1.ServiceAccount](),
		},
		PrepareCreate: func(_ context.Context, s *corev1.ServiceAccount) { onlyNames(s) },
		PrepareUpdate: func(_ context.Context, s, _ *corev1.ServiceAccount) { onlyNames(s) },
		NameRule:      validation.ValidateServiceAccountName,
		Warnings: func(s, old *corev1.ServiceAccount) []string {
			const mountable = "kubernetes.io/enforce-mountable-secrets"
			if _, is := s.Annotations[mountable]; !is {
				return nil
			}
			if old != nil {
				if _, was := old.Annotations[mountable]; was {
					return nil
				}
			}
			return []string{"metadata.annotations[" + mountable + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
		},
	}.Definition()
}

// onlyNames keeps of references to secrets what they mean: all are in the
// account's own namespace.
func onlyNames(s *corev1.ServiceAccount) {
	for i, ref := range s.Secrets {
		s.Secrets[i] = corev1.ObjectReference{Name: ref.Name}
	}
}
