package compose

import (
	"net/http"

	"go.opentelemetry.io/otel/trace"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"sagong/apiserver/discovery"
	"sagong/apiserver/openapi"
	"sagong/config"
	"sagong/crd"
	"sagong/kinds"
	"sagong/object"
	"sagong/reconcile"
)

// servedKinds are the kinds of a server with some features.
func servedKinds(f config.Features) []*object.Definition {
	all := kinds.All()
	if f.Workloads {
		all = append(all, kinds.Workloads()...)
	}
	return all
}

// openKinds describes what is in the scheme to clients, and serves the kinds that
// are defined while the server runs. It returns what answers discovery.
func (s *server) openKinds(scheme *object.Scheme, tracer trace.Tracer) (discover, describe http.Handler) {
	disc, docs := discovery.New(scheme, AdvertisedAPI(s.cfg)), openapi.New(scheme, config.KubernetesVersion)
	s.dynamic.schemas = docs
	s.crds = crd.NewRegistry(crd.Options{
		Engine: s.engine, Conversions: s.dynamic.clients, Tracer: tracer, Log: s.log.With("room", "api"),
		Changed: func() {
			disc.Changed()
			docs.Changed()
		},
	})
	s.openAggregator(disc.Changed)
	disc.Include(s.aggregator.Foreign)
	s.crds.Follow(reconcile.ViewOf[*apiextensionsv1.CustomResourceDefinition](s.hub))
	return disc, docs
}
