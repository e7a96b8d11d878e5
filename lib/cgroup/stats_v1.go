package cgroup

import (
	"bytes"
	"fmt"
)

func (r *reader) statsV1(t *Tree, path string, s *Stats) error {
	found := false
	if t.Has("cpuacct") {
		dir := t.v1dir("cpuacct", path)
		if b := r.file(dir, "cpuacct.usage"); b != nil {
			found = true
			s.CPU.UsageNanos = number(b)
		}
		s.CPU.UserNanos = number(r.file(dir, "cpuacct.usage_user"))
		s.CPU.SystemNanos = number(r.file(dir, "cpuacct.usage_sys"))
	}
	if t.Has("cpu") {
		eachKey(r.file(t.v1dir("cpu", path), "cpu.stat"), func(k, v []byte) {
			switch string(k) {
			case "nr_periods":
				s.CPU.Periods = number(v)
			case "nr_throttled":
				s.CPU.ThrottledPeriods = number(v)
			case "throttled_time":
				s.CPU.ThrottledNanos = number(v)
			}
		})
	}
	if t.Has("memory") {
		dir := t.v1dir("memory", path)
		if b := r.file(dir, "memory.usage_in_bytes"); b != nil {
			found = true
			s.Memory.Usage = number(b)
		}
		var inactive uint64
		eachKey(r.file(dir, "memory.stat"), func(k, v []byte) {
			switch string(k) {
			case "total_inactive_file":
				inactive = number(v)
			case "total_rss":
				s.Memory.RSS = number(v)
			case "total_cache":
				s.Memory.Cache = number(v)
			case "total_swap":
				s.Memory.Swap = number(v)
			case "total_pgfault":
				s.Memory.PageFaults = number(v)
			case "total_pgmajfault":
				s.Memory.MajorPageFaults = number(v)
			}
		})
		s.Memory.WorkingSet = s.Memory.Usage - min(inactive, s.Memory.Usage)
		s.Memory.Limit = number(r.file(dir, "memory.limit_in_bytes"))
		eachKey(r.file(dir, "memory.oom_control"), func(k, v []byte) {
			if string(k) == "oom_kill" {
				s.Memory.OOMKills = number(v)
			}
		})
	}
	if t.Has("pids") {
		dir := t.v1dir("pids", path)
		s.Pids = number(r.file(dir, "pids.current"))
		s.PidsLimit = number(r.file(dir, "pids.max"))
	}
	if t.Has("blkio") {
		dir := t.v1dir("blkio", path)
		s.IO.ReadBytes, s.IO.WriteBytes = blkio(r.file(dir, "blkio.throttle.io_service_bytes_recursive"))
		s.IO.Reads, s.IO.Writes = blkio(r.file(dir, "blkio.throttle.io_serviced_recursive"))
	}
	if !found {
		return fmt.Errorf("cannot read cgroup %s: it does not exist", path)
	}
	return nil
}

// blkio sums the lines "8:0 Read 4096" of all devices.
func blkio(b []byte) (read, write uint64) {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		switch string(f[1]) {
		case "Read":
			read += number(f[2])
		case "Write":
			write += number(f[2])
		}
	}
	return read, write
}
