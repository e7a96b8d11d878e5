// Package storagemigration defines the kinds of the group storagemigration.k8s.io, one file each.
package storagemigration
