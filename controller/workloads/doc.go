// Package workloads holds the controllers that keep pods running: Deployment,
// ReplicaSet, ReplicationController, DaemonSet, Job, CronJob and StatefulSet. For each, a
// pure planner decides from a snapshot and a thin controller carries it out.
package workloads
