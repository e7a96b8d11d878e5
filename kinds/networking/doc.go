// Package networking defines the kinds of the group networking.k8s.io, one file each.
package networking
