// Package apps defines the kinds of the group apps, one file each.
package apps
