package compose

import (
	"context"
	"net/url"

	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/aggregator"
)

// autoscaler is who asks other servers for metrics. They let the group do what it
// wants without asking back.
var autoscaler = &user.DefaultInfo{Name: "system:serviceaccount:kube-system:horizontal-pod-autoscaler", Groups: []string{user.SystemPrivilegedGroup}}

// readMetricsAPI lets autoscalers read the custom and external metrics that
// aggregated servers have.
func (s *server) readMetricsAPI(ctx context.Context, path string, query url.Values) ([]byte, error) {
	return s.api.ReadDelegated(aggregator.WithUser(ctx, autoscaler), path, query)
}
