package pod

import "sagong/lib/netlink"

// writeForward makes the namespace of the calling thread a router.
func writeForward() error { return netlink.WriteSetting("net/ipv4/ip_forward", "1") }
