// Package policy defines the kinds of the group policy, one file each.
package policy
