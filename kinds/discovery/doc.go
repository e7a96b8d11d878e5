// Package discovery defines the kinds of the group discovery.k8s.io, one file each.
package discovery
