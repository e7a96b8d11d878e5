package compose

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/admission/webhook"
	"sagong/apiserver/webhookclient"
	"sagong/client"
	"sagong/reconcile"
)

// dynamicAdmission is what users add to admission while the server runs: webhooks.
type dynamicAdmission struct {
	clients    *webhookclient.Clients
	metrics    *webhook.Metrics
	mutating   *webhook.Mutating
	validating *webhook.Validating
}

func newDynamicAdmission(c client.Client, hub *reconcile.Hub, a authorizer.UnconditionalAuthorizer, log *slog.Logger) *dynamicAdmission {
	h := &dynamicAdmission{clients: webhookclient.New(webhookclient.Services{Client: c}, nil), metrics: webhook.NewMetrics()}
	o := webhook.Options{Client: c, Clients: h.clients, Authorizer: a, Metrics: h.metrics, Log: log.With("room", "api")}
	h.mutating, h.validating = webhook.NewMutating(hub, o), webhook.NewValidating(hub, o)
	return h
}

// synced waits until everything registered before the start is in force: no
// request of a client may slip through before. The server's own first writes
// do, since what they would be sent to cannot run yet.
func (h *dynamicAdmission) synced(ctx context.Context) error {
	for _, s := range []interface{ Synced(context.Context) error }{h.mutating, h.validating} {
		if err := s.Synced(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (h *dynamicAdmission) register(r prometheus.Registerer) { r.MustRegister(h.metrics) }
