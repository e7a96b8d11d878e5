package compose

import (
	"context"
	"io/fs"
	"math"
	"net/netip"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "k8s.io/api/networking/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/apiserver"
	"sagong/apiserver/fairness"
	"sagong/apiserver/resource"
	"sagong/object"
	"sagong/reconcile"
)

// gauges are metrics that are measured when somebody reads them. Nothing is kept
// up for them in between.
type gauges struct {
	scheme   *object.Scheme
	engine   *resource.Engine
	hub      *reconcile.Hub
	api      *apiserver.Server
	fairness *fairness.Controller
	dir      string // of the store
}

// IncompleteViews is the metric by which a server tells what it has not read yet.
const IncompleteViews = "sagong_views_incomplete"

var (
	storedObjects   = prometheus.NewDesc("apiserver_storage_objects", "Number of stored objects at the time of last check split by kind.", []string{"resource"}, nil)
	resourceObjects = prometheus.NewDesc("apiserver_resource_objects", "Number of stored objects at the time of last check split by kind.", []string{"group", "resource"}, nil)
	storedBytes     = prometheus.NewDesc("apiserver_storage_size_bytes", "Size of the storage database file physically allocated in bytes.", []string{"storage_cluster_id"}, nil)
	inFlight        = prometheus.NewDesc("apiserver_current_inflight_requests", "Number of requests under way that are not long-running, per request kind.", []string{"request_kind"}, nil)
	nominalSeats    = prometheus.NewDesc("apiserver_flowcontrol_nominal_limit_seats", "Nominal number of execution seats configured for each priority level", []string{"priority_level"}, nil)
	executing       = prometheus.NewDesc("apiserver_flowcontrol_current_executing_requests", "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem", []string{"priority_level", "flow_schema"}, nil)
	seats           = prometheus.NewDesc("apiserver_flowcontrol_current_executing_seats", "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem", []string{"priority_level", "flow_schema"}, nil)
	allocatedIPs    = prometheus.NewDesc("kube_apiserver_clusterip_allocator_allocated_ips", "Gauge measuring the number of allocated IPs for Services", []string{"cidr"}, nil)
	availableIPs    = prometheus.NewDesc("kube_apiserver_clusterip_allocator_available_ips", "Gauge measuring the number of available IPs for Services", []string{"cidr"}, nil)
	unavailable     = prometheus.NewDesc("aggregator_unavailable_apiservice", "Gauge of APIServices which are marked as unavailable broken down by APIService name.", []string{"name"}, nil)
	incompleteViews = prometheus.NewDesc(IncompleteViews, "Kinds of which the server's controllers have not read all objects since it started, and whose controllers wait: 1 for each", []string{"group", "resource"}, nil)
	waiting         = prometheus.NewDesc("apiserver_flowcontrol_current_inqueue_requests", "Number of requests currently pending in queues of the API Priority and Fairness subsystem", []string{"priority_level", "flow_schema"}, nil)
)

// Describe implements prometheus.Collector.
func (gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storedObjects, resourceObjects, storedBytes, inFlight, nominalSeats, executing, seats, waiting, incompleteViews, unavailable, allocatedIPs, availableIPs} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	seen := map[string]bool{}
	for _, d := range g.scheme.All() {
		if d.Virtual || d.Dynamic != nil && d.Dynamic.Alias || seen[d.GR().String()] {
			continue
		}
		seen[d.GR().String()] = true
		n, err := g.engine.Count(context.Background(), d)
		if err != nil {
			n = -1 // as upstream has it
		}
		set(storedObjects, float64(n), d.GR().String())
		set(resourceObjects, float64(n), d.Group, d.Resource)
	}
	for _, d := range g.hub.Incomplete() {
		set(incompleteViews, 1, d.Group, d.Resource)
	}
	for s := range reconcile.ViewOf[*apiregistrationv1.APIService](g.hub).Each() {
		down := 1.0
		for _, c := range s.Status.Conditions {
			if c.Type == apiregistrationv1.Available && c.Status == apiregistrationv1.ConditionTrue {
				down = 0
			}
		}
		set(unavailable, down, s.Name)
	}
	for cidr, taken := range g.serviceAddresses() {
		set(allocatedIPs, float64(taken), cidr.String())
		// The first address is the network's, the last for broadcasts.
		set(availableIPs, max(0, math.Exp2(float64(cidr.Addr().BitLen()-cidr.Bits()))-2-float64(taken)), cidr.String())
	}
	set(storedBytes, float64(allocated(g.dir)), "sagong")
	reading, mutating := g.api.InFlight()
	set(inFlight, float64(reading), "readOnly")
	set(inFlight, float64(mutating), "mutating")
	for _, l := range g.fairness.Levels() {
		set(nominalSeats, float64(l.Nominal), l.Name)
		for schema, n := range l.Executing {
			set(executing, float64(n), l.Name, schema)
			set(seats, float64(n), l.Name, schema)
		}
		for schema, n := range l.Waiting {
			set(waiting, float64(n), l.Name, schema)
		}
	}
}

// serviceAddresses counts the addresses of Services in each range.
func (g gauges) serviceAddresses() map[netip.Prefix]int {
	taken := map[netip.Prefix]int{}
	for c := range reconcile.ViewOf[*networkingv1.ServiceCIDR](g.hub).Each() {
		for _, text := range c.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil {
				taken[p] = 0
			}
		}
	}
	for a := range reconcile.ViewOf[*networkingv1.IPAddress](g.hub).Each() {
		ip, err := netip.ParseAddr(a.Name)
		if err != nil {
			continue
		}
		for p := range taken {
			if p.Contains(ip) {
				taken[p]++
			}
		}
	}
	return taken
}

// allocated is what the files in a directory take on disk, in bytes.
func allocated(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if i, err := e.Info(); err == nil {
			if st, ok := i.Sys().(*syscall.Stat_t); ok && !e.IsDir() {
				total += st.Blocks * 512
			}
		}
		return nil
	})
	return total
}
