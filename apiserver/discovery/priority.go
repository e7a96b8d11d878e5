package discovery

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// groupPriorities are upstream's, in whose order clients see groups.
var groupPriorities = map[string]int32{
	"": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600, "autoscaling": 17500,
	"batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100, "rbac.authorization.k8s.io": 17000,
	"storage.k8s.io": 16800, "apiextensions.k8s.io": 16700, "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600,
	"coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200, "resource.k8s.io": 16200,
	"flowcontrol.apiserver.k8s.io": 16100, "storagemigration.k8s.io": 15800, "metrics.k8s.io": 100,
}

// first is the group that stands before all others, and has no priority.
const first = "apiregistration.k8s.io"

// Priorities are what the APIService of a group and version of this server says:
// those of custom resources unless the group is built in.
func Priorities(gv schema.GroupVersion) (group, version int32) {
	group, ok := groupPriorities[gv.Group]
	switch {
	case !ok:
		return 1000, 100
	case gv.Group == "":
		return group, 1
	case gv == schema.GroupVersion{Group: "autoscaling", Version: "v2"}:
		return group, 30
	case gv == schema.GroupVersion{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"}:
		return group, 21
	case gv.Group == "metrics.k8s.io":
		return group, 100
	case strings.Contains(gv.Version, "alpha"):
		return group, 9
	case strings.Contains(gv.Version, "beta"):
		return group, 12
	}
	return group, 15
}
