package compose

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"sagong/apiserver/authn"
	"sagong/apiserver/authz"
	"sagong/client"
	"sagong/controller/identity"
	"sagong/reconcile"
)

// tokenControllers are those of the tokens that live in Secrets, and the views
// that they need running.
func (s *server) tokenControllers() []reconcile.Controller {
	accounts := identity.SecretsOfType(s.system, s.log, corev1.SecretTypeServiceAccountToken)
	bootstrap := identity.SecretsOfType(s.system, s.log, corev1.SecretTypeBootstrapToken)
	s.secretViews = []*reconcile.View[*corev1.Secret]{accounts, bootstrap}
	return []reconcile.Controller{
		identity.NewAccountTokens(s.hub, accounts, s.ids.ca.CertPEM, s.accounts.IssueLegacy),
		identity.NewLegacyTokens(s.hub, accounts, cmp.Or(s.cfg.Duration(s.cfg.LegacyTokenPeriod), 365*24*time.Hour), authz.References),
		identity.NewTokenCleaner(bootstrap, time.Now),
		identity.NewBootstrapSigner(s.hub, bootstrap, time.Now),
	}
}

// trackLegacyTokens writes down since when the use of tokens in Secrets is known,
// for the controller of those that nobody uses and for tools that look for them.
func (s *server) trackLegacyTokens(ctx context.Context) error {
	const legacyTracking, since = identity.TokenTracking, identity.TrackedSince
	have, err := client.Get[*corev1.ConfigMap](ctx, s.system, metav1.NamespaceSystem, legacyTracking)
	today := map[string]string{since: time.Now().UTC().Format(authn.LegacyTokenDate)}
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, s.system, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: legacyTracking}, Data: today})
	case err == nil:
		if _, bad := time.Parse(authn.LegacyTokenDate, have.Data[since]); bad != nil {
			out := have.DeepCopy()
			out.Data = today
			_, err = client.Update(ctx, s.system, out)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("cannot say since when the use of tokens in Secrets is written down", "err", err)
	}
	return nil
}

// publishClusterInfo says in kube-public where the cluster is and by whose
// certificates one knows it, for tools that join nodes by token.
func (s *server) publishClusterInfo(ctx context.Context) error {
	text, err := clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"": {Server: "https://" + AdvertisedAPI(s.cfg), CertificateAuthorityData: s.ids.ca.CertPEM}},
	})
	if err != nil {
		return fmt.Errorf("cannot write the cluster's address: %w", err)
	}
	have, err := client.Get[*corev1.ConfigMap](ctx, s.system, metav1.NamespacePublic, identity.ClusterInfo)
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, s.system, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: identity.ClusterInfo}, Data: map[string]string{"kubeconfig": string(text)},
		})
	case err == nil && have.Data["kubeconfig"] != string(text):
		out := have.DeepCopy()
		if out.Data == nil {
			out.Data = map[string]string{}
		}
		out.Data["kubeconfig"] = string(text)
		_, err = client.Update(ctx, s.system, out)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("cannot publish the cluster's address", "err", err)
	}
	return nil
}
