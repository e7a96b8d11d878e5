// Package resource defines the kinds of the group resource.k8s.io, one file each.
package resource
