// Package batch defines the kinds of the group batch, one file each.
package batch
