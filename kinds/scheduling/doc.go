// Package scheduling defines the kinds of the group scheduling.k8s.io, one file each.
package scheduling
