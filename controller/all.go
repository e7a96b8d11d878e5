// Package controller lists the controllers of a cluster.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"sagong/client"
	"sagong/controller/cleanup"
	"sagong/controller/devices"
	"sagong/controller/flows"
	"sagong/controller/identity"
	"sagong/controller/nodes"
	"sagong/controller/scaling"
	"sagong/controller/services"
	"sagong/controller/volumes"
	"sagong/controller/workloads"
	"sagong/reconcile"
)

// Deps is what the controllers need from outside.
type Deps struct {
	Hub *reconcile.Hub
	// Events gives each controller its recorder.
	Events *reconcile.Recorder
	Log    *slog.Logger
	// ClusterCIDR is divided among the nodes, NodeCIDRBits long each; when it
	// is not valid, nodes get no pod addresses from here.
	ClusterCIDR  netip.Prefix
	NodeCIDRBits int
	// ServiceCIDR is the range of the default ServiceCIDR; when it is not valid
	// there is none to keep.
	ServiceCIDR netip.Prefix
	// RootCA is the PEM of the authorities that sign the API server's
	// certificates, published to every namespace.
	RootCA []byte
	// EmptyElsewhere deletes what other API servers keep in a namespace; nil when
	// there are none.
	EmptyElsewhere func(ctx context.Context, namespace string) cleanup.Elsewhere
	// Workloads says that groups of pods are served.
	Workloads bool
	// ReadAPI reads custom and external metrics for autoscalers; nil when nobody
	// serves them.
	ReadAPI scaling.ReadAPI
	// Metrics is where controllers register what they measure; nil for nowhere.
	Metrics prometheus.Registerer
}

// All returns every controller, in no order that matters.
func All(d Deps) ([]reconcile.Controller, error) {
	events := func(component string) client.Recorder { return d.Events.For(component, "") }
	work, machines := workloads.NewMetrics(d.Metrics), nodes.NewMetrics(d.Metrics)
	ephemeral, late := volumes.NewEphemeralMetrics(d.Metrics), cleanup.NewTTLMetrics(d.Metrics)
	var left devices.Evictions
	all := []reconcile.Controller{
		workloads.NewDeployment(d.Hub, events("deployment-controller")),
		workloads.NewReplicaSet(d.Hub, events("replicaset-controller")),
		workloads.NewReplicationController(d.Hub, events("replication-controller")),
		workloads.NewDaemonSet(d.Hub, events("daemonset-controller")),
		workloads.NewStatefulSet(d.Hub, events("statefulset-controller"), work),
		workloads.NewJob(d.Hub, events("job-controller"), work),
		workloads.NewCronJob(d.Hub, events("cronjob-controller"), work),
		scaling.NewDisruption(d.Hub, events("controllermanager")),
		scaling.NewStaleDisruption(d.Hub),
		scaling.NewHorizontalPodAutoscaler(d.Hub, events("horizontal-pod-autoscaler"), d.ReadAPI),
		services.NewEndpointSlice(d.Hub, events("endpoint-slice-controller")),
		services.NewEndpoints(d.Hub, events("endpoint-controller")),
		services.NewEndpointSliceMirroring(d.Hub, events("endpoint-slice-mirroring-controller")),
		services.NewServiceCIDR(d.Hub, events("service-cidrs-controller"), d.ServiceCIDR),
		services.NewAddressRepair(d.Hub, events("ipallocator-repair-controller")),
		volumes.NewBinder(d.Hub, events("persistentvolume-controller")),
		volumes.NewClaimProtection(d.Hub), volumes.NewUnused(d.Hub),
		volumes.NewVolumeProtection(d.Hub),
		volumes.NewAttributesClassProtection(d.Hub),
		volumes.NewEphemeral(d.Hub, events("ephemeral_volume"), ephemeral),
		volumes.NewLocal(d.Hub, events("local.sagong.io")),
		volumes.NewExpand(d.Hub, events("volume_expand")),
		devices.NewPodClaims(d.Hub, events("resource_claim")),
		devices.NewClaim(d.Hub),
		devices.NewTaintEviction(d.Hub, events("device-taint-eviction-controller"), &left), devices.NewTaintRules(d.Hub, &left),
		identity.NewServiceAccount(d.Hub),
		identity.NewRootCA(d.Hub, d.RootCA), identity.NewTrustBundle(d.Hub, d.RootCA),
		identity.NewClusterRoleAggregation(d.Hub),
		cleanup.NewNamespace(d.Hub, d.EmptyElsewhere),
		cleanup.NewStorageMigration(d.Hub),
		cleanup.NewGarbageCollector(events("garbage-collector-controller"), d.Log),
		cleanup.NewPodGarbageCollector(d.Hub),
		cleanup.NewTTLAfterFinished(d.Hub, late),
		flows.New(d.Hub),
		nodes.NewLifecycle(d.Hub, events("node-controller"), machines),
		nodes.NewTaintEviction(d.Hub, events("taint-eviction-controller"), machines),
		nodes.NewTTL(d.Hub),
	}
	if d.Workloads {
		all = append(all, workloads.NewPodGroupProtection(d.Hub))
	}
	if d.ClusterCIDR.IsValid() {
		c, err := nodes.NewPodCIDR(d.Hub, events("cidrAllocator"), d.Log, d.ClusterCIDR, d.NodeCIDRBits)
		if err != nil {
			return nil, fmt.Errorf("cannot make controllers: %w", err)
		}
		all = append(all, c)
	}
	return all, nil
}
