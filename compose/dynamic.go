package compose

import (
	"context"
	"log/slog"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/admission"
	"sagong/apiserver/admission/match"
	"sagong/apiserver/admission/policy"
	"sagong/apiserver/admission/webhook"
	"sagong/apiserver/webhookclient"
	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// dynamicAdmission is what users add to admission while the server runs:
// webhooks and policies.
type dynamicAdmission struct {
	mutating, validating []admission.Plugin
	clients              *webhookclient.Clients
	schemas              policy.Schemas // of all kinds, for type checking
}

func newDynamicAdmission(c client.Client, hub *reconcile.Hub, a authorizer.UnconditionalAuthorizer, f *object.FieldManagers, r prometheus.Registerer, log *slog.Logger) *dynamicAdmission {
	log = log.With("room", "api")
	d := &dynamicAdmission{clients: webhookclient.New(webhookclient.Services{Client: c}, nil)}
	conditions := match.NewMetrics(r)
	w := webhook.Options{Client: c, Clients: d.clients, Authorizer: a, Metrics: webhook.NewMetrics(r), Conditions: conditions, Log: log}
	p := policy.Options{Client: c, Authorizer: a, Fields: f, Metrics: policy.NewMetrics(r), Conditions: conditions, Log: log}
	d.mutating = []admission.Plugin{policy.NewMutating(hub, p), webhook.NewMutating(hub, w)}
	d.validating = []admission.Plugin{policy.ParamAccess{Client: c, Authorizer: a}, policy.NewValidating(hub, p), webhook.NewValidating(hub, w)}
	return d
}

// synced waits until everything registered before the start is in force: no
// request of a client may slip through before. The server's own first writes
// do, since what they would be sent to cannot run yet.
func (d *dynamicAdmission) synced(ctx context.Context) error {
	for _, p := range slices.Concat(d.mutating, d.validating) {
		if s, ok := p.(interface{ Synced(context.Context) error }); ok {
			if err := s.Synced(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// controllers keep the status of what users added.
func (d *dynamicAdmission) controllers(hub *reconcile.Hub) []reconcile.Controller {
	return []reconcile.Controller{policy.NewStatus(hub, d.schemas)}
}
