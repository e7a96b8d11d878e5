package cgroup

import (
	"bytes"
	"fmt"
)

func (r *reader) statsV2(dir string, s *Stats) error {
	b := r.file(dir, "cpu.stat")
	if b == nil {
		return fmt.Errorf("cannot read cgroup %s: it does not exist", dir)
	}
	eachKey(b, func(k, v []byte) {
		switch string(k) {
		case "usage_usec":
			s.CPU.UsageNanos = number(v) * 1000
		case "user_usec":
			s.CPU.UserNanos = number(v) * 1000
		case "system_usec":
			s.CPU.SystemNanos = number(v) * 1000
		case "nr_periods":
			s.CPU.Periods = number(v)
		case "nr_throttled":
			s.CPU.ThrottledPeriods = number(v)
		case "throttled_usec":
			s.CPU.ThrottledNanos = number(v) * 1000
		}
	})
	s.Memory.Usage = number(r.file(dir, "memory.current"))
	var inactive uint64
	eachKey(r.file(dir, "memory.stat"), func(k, v []byte) {
		switch string(k) {
		case "inactive_file":
			inactive = number(v)
		case "anon":
			s.Memory.RSS = number(v)
		case "file":
			s.Memory.Cache = number(v)
		case "pgfault":
			s.Memory.PageFaults = number(v)
		case "pgmajfault":
			s.Memory.MajorPageFaults = number(v)
		}
	})
	s.Memory.WorkingSet = s.Memory.Usage - min(inactive, s.Memory.Usage)
	s.Memory.Swap = number(r.file(dir, "memory.swap.current"))
	s.Memory.Limit = number(r.file(dir, "memory.max"))
	eachKey(r.file(dir, "memory.events"), func(k, v []byte) {
		if string(k) == "oom_kill" {
			s.Memory.OOMKills = number(v)
		}
	})
	s.Pids = number(r.file(dir, "pids.current"))
	s.PidsLimit = number(r.file(dir, "pids.max"))
	for line := range bytes.Lines(r.file(dir, "io.stat")) {
		for f := range bytes.FieldsSeq(line) {
			k, v, _ := bytes.Cut(f, []byte("="))
			switch string(k) {
			case "rbytes":
				s.IO.ReadBytes += number(v)
			case "wbytes":
				s.IO.WriteBytes += number(v)
			case "rios":
				s.IO.Reads += number(v)
			case "wios":
				s.IO.Writes += number(v)
			}
		}
	}
	return nil
}
