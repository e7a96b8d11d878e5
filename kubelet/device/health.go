package device

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	health "k8s.io/kubelet/pkg/apis/dra-health/v1"
	healthalpha "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"

	"sagong/kubelet/plugin"
)

const (
	// believed is how long a report is believed, unless the driver says so itself.
	believed = 30 * time.Second
	// askAgain is how long a driver that stopped reporting is left alone.
	askAgain = 5 * time.Second
)

// report is what a driver said of a device.
type report struct {
	health  corev1.ResourceHealthStatus
	message string
	until   time.Time // when it is believed no longer
}

type deviceKey struct{ driver, pool, device string }

// reports are what the drivers said last.
type reports struct {
	mu sync.Mutex
	by map[deviceKey]report
}

// healthOf is the service of a plugin that reports the health of devices; nil
// for one without.
func healthOf(i plugin.Info, conn *grpc.ClientConn) health.DRAResourceHealthClient {
	switch {
	case slices.Contains(i.Versions, health.DRAResourceHealthService):
		return health.NewDRAResourceHealthClient(conn)
	case slices.Contains(i.Versions, healthalpha.DRAResourceHealthService):
		return health.V1Alpha1ClientWrapper{Client: healthalpha.NewDRAResourceHealthClient(conn)}
	}
	return nil
}

// follow takes in what a driver reports until ctx ends, or the driver says that
// it reports nothing.
func (m *Manager) follow(ctx context.Context, name string, c health.DRAResourceHealthClient) {
	for {
		err := m.listen(ctx, name, c)
		m.forgetHealth(name)
		if ctx.Err() != nil || status.Code(err) == codes.Unimplemented {
			return
		}
		m.cfg.Log.Log(ctx, slog.LevelInfo, "no news of the health of devices, asking again", "driver", name, "err", err, "in", askAgain)
		select {
		case <-ctx.Done():
			return
		case <-time.After(askAgain):
		}
	}
}

func (m *Manager) listen(ctx context.Context, name string, c health.DRAResourceHealthClient) error {
	stream, err := c.NodeWatchResources(ctx, &health.NodeWatchResourcesRequest{})
	if err != nil {
		return err
	}
	for {
		said, err := stream.Recv()
		if err != nil {
			return err
		}
		m.heard(name, said.GetDevices(), time.Now())
	}
}

// heard takes in a report. Devices that it leaves out keep what was said of them
// until that is too old.
func (m *Manager) heard(driver string, list []*health.DeviceHealth, now time.Time) {
	changed := map[deviceKey]bool{}
	m.reports.mu.Lock()
	for _, d := range list {
		k := deviceKey{driver, d.GetDevice().GetPoolName(), d.GetDevice().GetDeviceName()}
		is := report{health: corev1.ResourceHealthStatusUnknown, message: shortened(d.GetMessage())}
		switch d.GetHealth() {
		case health.HealthStatus_HEALTHY:
			is.health = corev1.ResourceHealthStatusHealthy
		case health.HealthStatus_UNHEALTHY:
			is.health = corev1.ResourceHealthStatusUnhealthy
		}
		lease := time.Duration(d.GetHealthCheckTimeoutSeconds()) * time.Second
		if lease <= 0 {
			lease = believed
		}
		is.until = now.Add(lease)
		was, known := m.reports.by[k]
		if m.reports.by[k] = is; !known || was.health != is.health || was.message != is.message || now.After(was.until) {
			changed[k] = true
		}
	}
	m.reports.mu.Unlock()
	m.expireLater(driver, now)
	m.tell(changed)
}

// expireLater has the pods told when the next report of a driver is too old.
func (m *Manager) expireLater(driver string, now time.Time) {
	var next time.Time
	m.reports.mu.Lock()
	for k, r := range m.reports.by {
		if k.driver == driver && r.until.After(now) && (next.IsZero() || r.until.Before(next)) {
			next = r.until
		}
	}
	m.reports.mu.Unlock()
	if next.IsZero() {
		return
	}
	m.cfg.Later("health of "+driver, next.Sub(now), func(context.Context) { m.expire(driver, time.Now()) })
}

func (m *Manager) expire(driver string, now time.Time) {
	old := map[deviceKey]bool{}
	m.reports.mu.Lock()
	for k, r := range m.reports.by {
		if k.driver == driver && !r.until.After(now) {
			old[k] = true
			delete(m.reports.by, k)
		}
	}
	m.reports.mu.Unlock()
	m.expireLater(driver, now)
	m.tell(old)
}

// forgetHealth drops what a driver said that reports no longer.
func (m *Manager) forgetHealth(driver string) {
	gone := map[deviceKey]bool{}
	m.reports.mu.Lock()
	for k := range m.reports.by {
		if k.driver == driver {
			gone[k] = true
			delete(m.reports.by, k)
		}
	}
	m.reports.mu.Unlock()
	m.tell(gone)
}

// tell has the status of the pods found anew that use some devices.
func (m *Manager) tell(devices map[deviceKey]bool) {
	if len(devices) == 0 || m.cfg.HealthChanged == nil {
		return
	}
	pods := map[types.UID]bool{}
	m.mu.Lock()
	for _, c := range m.claims {
		for driver, ds := range c.Drivers {
			if slices.ContainsFunc(ds.Devices, func(d prepared) bool { return devices[deviceKey{driver, d.Pool, d.Device}] }) {
				for _, p := range c.Pods {
					pods[p] = true
				}
			}
		}
	}
	m.mu.Unlock()
	for p := range pods {
		m.cfg.HealthChanged(p)
	}
}

// shortened is a driver's message as a status may hold it.
func shortened(s string) string {
	if len(s) <= corev1.ResourceHealthMessageMaxLength {
		return s
	}
	s = s[:corev1.ResourceHealthMessageMaxLength-3]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}

// Health is the health of the devices that a container has through its pod's
// claims, by what it asked for; nil when none is prepared.
func (m *Manager) Health(p *corev1.Pod, c *corev1.Container) (list []corev1.ResourceStatus) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range wants(p, c) {
		x := m.find(p, w.claim)
		if x == nil {
			continue
		}
		var all []corev1.ResourceHealth
		for _, driver := range slices.Sorted(maps.Keys(x.Drivers)) {
			for _, d := range x.Drivers[driver].Devices {
				if !meant(d.Requests, w.request) {
					continue
				}
				h := m.healthOfDevice(driver, d, now)
				if !slices.ContainsFunc(all, func(o corev1.ResourceHealth) bool { return o.ResourceID == h.ResourceID }) {
					all = append(all, h)
				}
			}
		}
		if len(all) > 0 {
			list = append(list, corev1.ResourceStatus{Name: w.name, Resources: all})
		}
	}
	return list
}

func (m *Manager) healthOfDevice(driver string, d prepared, now time.Time) corev1.ResourceHealth {
	h := corev1.ResourceHealth{ResourceID: corev1.ResourceID(driver + "/" + d.Pool + "/" + d.Device), Health: corev1.ResourceHealthStatusUnknown}
	if len(d.CDI) > 0 {
		h.ResourceID = corev1.ResourceID(d.CDI[0])
	}
	m.reports.mu.Lock()
	r, ok := m.reports.by[deviceKey{driver, d.Pool, d.Device}]
	m.reports.mu.Unlock()
	if ok && r.until.After(now) {
		if h.Health = r.health; r.message != "" {
			h.Message = &r.message
		}
	}
	return h
}
