// Package node defines the kinds of the group node.k8s.io, one file each.
package node
