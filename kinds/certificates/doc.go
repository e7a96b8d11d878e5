// Package certificates defines the kinds of the group certificates.k8s.io, one file each.
package certificates
