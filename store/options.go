package store

import (
	"log/slog"
	"strings"
	"time"

	"sagong/lib/disk"
)

// Options configure Open and OpenMemory. The zero value of every field but Dir is usable.
type Options struct {
	// Dir is the data directory; it is made if missing. OpenMemory ignores it.
	Dir string
	// Log receives what an operator should know: recovery, snapshots, the
	// failure that stopped the writes. Default: none.
	Log *slog.Logger

	// Topic returns the length of the part of key that names its resource, such
	// as "/registry/pods/", including the slash; 0 if key does not reach that
	// far. Watchers of different topics never wake each other. Default: through
	// the second segment.
	Topic func(key string) int
	// Tag returns the value by which watchers of a topic may select events, ""
	// for none: spec.nodeName of a pod. It is called only for topics that are
	// watched or listed by tag, should be cheap (Record.Memo helps) and must not
	// call the store.
	Tag func(*Record) string

	// Cipher seals values before they leave for the disk, the log, snapshots and
	// backups alike; in memory they stay as they are. Default: none.
	Cipher Cipher

	// History is how long superseded versions and events are kept. Default 5
	// minutes.
	History time.Duration
	// HistoryBytes and HistoryEvents bound what is kept within that time; beyond
	// them the oldest goes first. Defaults 256 MiB and 500,000.
	HistoryBytes  int64
	HistoryEvents int
	// A topic with more than BusyEvents of them, and four for each of its keys,
	// keeps its oldest for BusyHistory only: thousands of nodes renew their leases
	// every ten seconds, and nobody asks what they were minutes ago. Defaults 20,000
	// and 80 seconds, for upstream promises 75.
	BusyEvents  int
	BusyHistory time.Duration

	// PackAbove is the number of keys above which present versions are packed
	// too, once they have rested: lists then expand them. Default 20,000.
	PackAbove int

	// FS is the file system for all but the log's segments. Default: the
	// machine's.
	FS disk.FS
	// SnapshotBytes is the least size of the log at which a new snapshot is
	// written. Default 128 MiB.
	SnapshotBytes int64
	// LazySync is how long a lazy operation may wait for its way to disk.
	// Default 50 ms.
	LazySync time.Duration
	// Crowd is the number of watchers of one index from which on they are woken
	// together, at most once every CrowdDelay. Defaults 50 and 1 ms.
	Crowd      int
	CrowdDelay time.Duration
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Topic == nil {
		o.Topic = secondSegment
	}
	def(&o.History, 5*time.Minute)
	def(&o.LazySync, 50*time.Millisecond)
	def(&o.CrowdDelay, time.Millisecond)
	if o.HistoryBytes <= 0 {
		o.HistoryBytes = 256 << 20
	}
	if o.HistoryEvents <= 0 {
		o.HistoryEvents = 500_000
	}
	if o.BusyEvents <= 0 {
		o.BusyEvents = 20_000
	}
	def(&o.BusyHistory, 80*time.Second)
	if o.PackAbove <= 0 {
		o.PackAbove = 20_000
	}
	if o.SnapshotBytes <= 0 {
		o.SnapshotBytes = 128 << 20
	}
	if o.Crowd <= 0 {
		o.Crowd = 50
	}
	return o
}

// secondSegment returns the length of "/a/b/" in "/a/b/c", 0 if the key has fewer
// segments.
func secondSegment(key string) int {
	n := 0
	for range 3 {
		at := strings.IndexByte(key[n:], '/')
		if at < 0 {
			return 0
		}
		n += at + 1
	}
	return n
}
