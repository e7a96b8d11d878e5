// Package flowcontrol defines the kinds of the group flowcontrol.apiserver.k8s.io, one file each.
package flowcontrol
