package proxy

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sagong/reconcile"
)

// checkInterval is how often the table is looked for. Being told of every
// change of nftables instead would have the kernel copy each of our own
// changes back.
const checkInterval = 30 * time.Second

// Run follows the Services and EndpointSlices of the hub, which must run too,
// until ctx ends. The kernel is changed for the first time when all of them are
// known and Config.Ready is closed.
func (p *Proxy) Run(ctx context.Context, hub *reconcile.Hub) error {
	services := reconcile.ViewOf[*corev1.Service](hub)
	endpoints := reconcile.ViewOf[*discoveryv1.EndpointSlice](hub)
	stopNodes := reconcile.ViewOf[*corev1.Node](hub).OnChange(func(_, n *corev1.Node) {
		if n != nil && n.Name == p.cfg.NodeName {
			p.SetZone(n.Labels[corev1.LabelTopologyZone])
		}
	})
	defer stopNodes()
	stopServices := services.OnChange(func(old, new *corev1.Service) {
		if new != nil {
			p.SetService(new)
		} else {
			p.DeleteService(old.Namespace, old.Name)
		}
	})
	defer stopServices()
	stopEndpoints := endpoints.OnChange(func(old, new *discoveryv1.EndpointSlice) {
		if new != nil {
			p.SetEndpointSlice(new)
		} else {
			p.DeleteEndpointSlice(old.Namespace, old.Name)
		}
	})
	defer stopEndpoints()
	if err := services.Need(ctx); err != nil {
		return err
	}
	if err := endpoints.Need(ctx); err != nil {
		return err
	}
	if p.cfg.Ready != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.cfg.Ready:
		}
	}
	p.Start()
	return p.loop(ctx)
}

// loop flushes when something changed, tries again after faults, and looks for
// the table now and then.
func (p *Proxy) loop(ctx context.Context) error {
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	var failing time.Duration
	for {
		if err := p.Flush(ctx); err != nil {
			failing = min(max(2*failing, 100*time.Millisecond), 10*time.Second)
			p.cfg.Log.Error("cannot bring Services up to date, trying again", "err", err, "in", failing)
		} else {
			failing = 0
		}
		var again <-chan time.Time
		if failing > 0 {
			again = time.After(failing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.wake:
		case <-again:
		case <-check.C:
			if _, err := p.check(); err != nil {
				p.cfg.Log.Warn("cannot look for the table of Services", "err", err)
			}
		}
	}
}
