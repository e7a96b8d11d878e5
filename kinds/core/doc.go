// Package core defines the kinds of the core group, version v1, one file each.
package core
