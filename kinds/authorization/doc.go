// Package authorization defines the kinds of the group authorization.k8s.io, one file each.
package authorization
