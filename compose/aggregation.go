package compose

import (
	"sagong/apiserver/aggregator"
	"sagong/apiserver/openapi"
	"sagong/apiserver/webhookclient"
)

// openAggregator lets other servers answer for groups of the API.
func (s *server) openAggregator(changed func()) {
	s.aggregator = aggregator.New(aggregator.Options{
		Hub: s.hub, Resolver: webhookclient.Services{Client: s.system}, Certificate: s.ids.proxyClient.GetClientCertificate,
		Changed: changed, ServeV2: openapi.ServeV2, Log: s.log.With("room", "api"),
	})
}
