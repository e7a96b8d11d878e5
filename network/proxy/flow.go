package proxy

import (
	"errors"

	"golang.org/x/sys/unix"
	"sagong/lib/netlink"
)

// manyPools is when one walk over all of the cluster's connections is better
// than one for each pool.
const manyPools = 4

// forget removes tracked UDP connections that the last change made wrong: they
// would lead clients to former endpoints as long as they send.
func (p *Proxy) forget() error {
	s := &p.model.stale
	if s.empty() {
		return nil
	}
	var b netlink.Builder
	pools := map[uint32]bool{}
	for id := range s.pools {
		pools[id] = true
	}
	for pb := range s.backends {
		pools[pb.id] = true
	}
	for mf := range s.moved {
		pools[mf.id] = true
	}
	wrong := func(f netlink.Flow) {
		id := f.Mark & idMask
		if f.Orig.Protocol != unix.IPPROTO_UDP {
			return
		}
		if s.pools[id] || s.backends[poolBackend{id, f.Reply.Source}] || s.moved[movedFront{id, f.Orig.Destination.Port()}] {
			b.DeleteFlow(f)
		}
	}
	var errs []error
	if len(pools) > manyPools {
		errs = append(errs, p.flows.Flows(p.model.tag, tagMask, wrong))
	} else {
		for id := range pools {
			errs = append(errs, p.flows.Flows(p.model.tag|id, tagMask|idMask, wrong))
		}
	}
	if len(s.fronts) > 0 {
		errs = append(errs, p.flows.Flows(0, tagMask, func(f netlink.Flow) {
			// Only what was delivered as it came; the rest is not for a Service.
			if f.Orig.Protocol != unix.IPPROTO_UDP || f.Reply.Source != f.Orig.Destination || f.Reply.Destination != f.Orig.Source {
				return
			}
			d := f.Orig.Destination
			if s.fronts[frontKey{d.Addr(), unix.IPPROTO_UDP, d.Port()}] || s.fronts[frontKey{proto: unix.IPPROTO_UDP, port: d.Port()}] {
				b.DeleteFlow(f)
			}
		}))
	}
	for _, err := range p.flows.DoEach(&b) {
		// Many end by themselves in between.
		if !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
