// Package resource keeps a node usable: it evicts pods when memory, disk or
// process ids run short, removes unused images when the disk fills, enforces
// limits of local storage, and rotates container logs. Each is one slow look
// over the whole node, never one a pod.
package resource

import "time"

// Config holds thresholds; the defaults are upstream's.
type Config struct {
	// Interval between looks; default 10 s.
	Interval time.Duration
	// MemoryAvailable below which pods are evicted; default 100 MiB.
	MemoryAvailable int64
	// NodefsAvailable, NodefsInodesFree and ImagefsAvailable are shares of the
	// whole (0.1 is a tenth); defaults 0.10, 0.05, 0.15.
	NodefsAvailable, NodefsInodesFree, ImagefsAvailable float64
	// PressureTransition is how long a condition stays after its cause has
	// gone; default 5 min.
	PressureTransition time.Duration
	// ImageHigh and ImageLow are the shares of the disk at which images are
	// collected and down to which; defaults 0.85 and 0.80. ImageMinAge protects
	// new images; default 2 min.
	ImageHigh, ImageLow float64
	ImageMinAge         time.Duration
	// LogMaxSize and LogMaxFiles bound a container's logs; defaults 10 MiB, 5.
	LogMaxSize  int64
	LogMaxFiles int
}

// Defaults returns c with unset fields filled.
func (c Config) Defaults() Config {
	def := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	share := func(p *float64, v float64) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&c.Interval, 10*time.Second)
	def(&c.PressureTransition, 5*time.Minute)
	def(&c.ImageMinAge, 2*time.Minute)
	share(&c.NodefsAvailable, 0.10)
	share(&c.NodefsInodesFree, 0.05)
	share(&c.ImagefsAvailable, 0.15)
	share(&c.ImageHigh, 0.85)
	share(&c.ImageLow, 0.80)
	if c.MemoryAvailable <= 0 {
		c.MemoryAvailable = 100 << 20
	}
	if c.LogMaxSize <= 0 {
		c.LogMaxSize = 10 << 20
	}
	if c.LogMaxFiles <= 1 {
		c.LogMaxFiles = 5
	}
	return c
}
