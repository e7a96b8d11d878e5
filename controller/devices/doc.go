// Package devices holds the controllers of dynamic resource allocation: claims
// made for pods, claims given back, pods that must leave tainted devices.
package devices
