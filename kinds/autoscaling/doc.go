// Package autoscaling defines the kinds of the group autoscaling, one file each.
package autoscaling
