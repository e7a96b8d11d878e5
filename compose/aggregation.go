package compose

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"sagong/apiserver/aggregator"
	"sagong/apiserver/openapi"
	"sagong/apiserver/webhookclient"
)

// openAggregator lets other servers answer for groups of the API.
func (s *server) openAggregator(changed func()) {
	unavailable := promauto.With(s.metrics.registry).NewCounterVec(prometheus.CounterOpts{
		Name: "aggregator_unavailable_apiservice_total", Help: "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
	}, []string{"name", "reason"})
	s.aggregator = aggregator.New(aggregator.Options{
		Hub: s.hub, Resolver: webhookclient.Services{Client: s.system}, Certificate: s.ids.proxyClient.GetClientCertificate,
		Changed: changed, Unavailable: func(name, reason string) { unavailable.WithLabelValues(name, reason).Inc() }, ServeV2: openapi.ServeV2, Log: s.log.With("room", "api"),
	})
}
