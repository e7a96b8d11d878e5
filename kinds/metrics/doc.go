// Package metrics defines the kinds of the group metrics.k8s.io: what nodes and
// pods use. They are measured when somebody asks, and never stored.
package metrics
