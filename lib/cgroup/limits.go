package cgroup

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// setting is one value to be written to one file of one controller.
type setting struct {
	controller, file, value string
	// optional settings are skipped where the kernel lacks the file.
	optional bool
}

// Apply sets the limits of a cgroup that exists.
func (t *Tree) Apply(path string, r Resources) error {
	if t.layout.Version == 2 {
		ss, err := settingsV2(r)
		if err != nil {
			return err
		}
		return t.write(path, ss)
	}
	ss, err := settingsV1(r)
	if err != nil {
		return err
	}
	err = t.write(path, ss)
	if errors.Is(err, unix.EINVAL) && r.Memory != 0 {
		// Memory may not exceed memory and swap at any moment: lowering must go
		// in one order, raising in the other. Which it is shows in the refusal.
		for i, s := range ss {
			if s.file == "memory.limit_in_bytes" && i+1 < len(ss) && ss[i+1].file == "memory.memsw.limit_in_bytes" {
				ss[i], ss[i+1] = ss[i+1], ss[i]
				err = t.write(path, ss)
				break
			}
		}
	}
	return err
}

func (t *Tree) write(path string, ss []setting) error {
	for _, s := range ss {
		var dir string
		if t.layout.Version == 2 {
			dir = t.hierarchies[0].dir(path)
		} else if h, ok := t.byController[s.controller]; ok {
			dir = h.dir(path)
		} else {
			if s.optional {
				continue
			}
			return fmt.Errorf("cannot set %s: %w", s.file, ErrNoController)
		}
		err := writeFile(filepath.Join(dir, s.file), s.value)
		if errors.Is(err, unix.ENOENT) {
			if s.optional {
				continue
			}
			if t.Exists(path) {
				return fmt.Errorf("cannot set %s: %w", s.file, ErrNoController)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot limit cgroup: %w", err)
		}
	}
	return nil
}

func settingsV1(r Resources) ([]setting, error) {
	var ss []setting
	add := func(c, f, v string) { ss = append(ss, setting{controller: c, file: f, value: v}) }
	if len(r.Unified) > 0 {
		return nil, fmt.Errorf("cannot set %s: this machine has cgroup version 1", firstKey(r.Unified))
	}
	if r.CPUShares != 0 {
		add("cpu", "cpu.shares", utoa(min(max(r.CPUShares, 2), 262144)))
	}
	if r.CPUPeriod != 0 {
		add("cpu", "cpu.cfs_period_us", utoa(r.CPUPeriod))
	}
	if r.CPUQuota != 0 {
		add("cpu", "cpu.cfs_quota_us", itoa(max(r.CPUQuota, -1)))
	}
	if r.CPUSet != "" {
		add("cpuset", "cpuset.cpus", r.CPUSet)
	}
	if r.MemSet != "" {
		add("cpuset", "cpuset.mems", r.MemSet)
	}
	if r.Memory != 0 {
		add("memory", "memory.limit_in_bytes", itoa(max(r.Memory, -1)))
	}
	if r.MemorySwap != 0 {
		ss = append(ss, setting{controller: "memory", file: "memory.memsw.limit_in_bytes",
			value: itoa(max(r.MemorySwap, -1)), optional: true})
	}
	if r.Pids != 0 {
		add("pids", "pids.max", maxOr(r.Pids))
	}
	for _, size := range sortedKeys(r.HugePages) {
		add("hugetlb", "hugetlb."+size+".limit_in_bytes", utoa(r.HugePages[size]))
		ss = append(ss, setting{controller: "hugetlb", file: "hugetlb." + size + ".rsvd.limit_in_bytes",
			value: utoa(r.HugePages[size]), optional: true})
	}
	return ss, nil
}

func settingsV2(r Resources) ([]setting, error) {
	var ss []setting
	add := func(f, v string) { ss = append(ss, setting{file: f, value: v}) }
	if r.CPUShares != 0 {
		add("cpu.weight", utoa(WeightOfShares(r.CPUShares)))
	}
	switch {
	case r.CPUQuota < 0:
		add("cpu.max", strings.TrimSpace("max "+nonzero(r.CPUPeriod)))
	case r.CPUQuota > 0:
		period := r.CPUPeriod
		if period == 0 {
			period = 100000
		}
		add("cpu.max", itoa(r.CPUQuota)+" "+utoa(period))
	case r.CPUPeriod != 0:
		add("cpu.max", "max "+utoa(r.CPUPeriod))
	}
	if r.CPUSet != "" {
		add("cpuset.cpus", r.CPUSet)
	}
	if r.MemSet != "" {
		add("cpuset.mems", r.MemSet)
	}
	if r.MemorySwap != 0 {
		swap := "max"
		if r.MemorySwap > 0 {
			if r.Memory <= 0 || r.MemorySwap < r.Memory {
				return nil, fmt.Errorf("memory and swap limit of %d needs a memory limit not above it, not %d", r.MemorySwap, r.Memory)
			}
			swap = itoa(r.MemorySwap - r.Memory)
		}
		ss = append(ss, setting{file: "memory.swap.max", value: swap, optional: true})
	}
	if r.Memory != 0 {
		add("memory.max", maxOr(r.Memory))
	}
	if r.Pids != 0 {
		add("pids.max", maxOr(r.Pids))
	}
	for _, size := range sortedKeys(r.HugePages) {
		add("hugetlb."+size+".max", utoa(r.HugePages[size]))
		ss = append(ss, setting{file: "hugetlb." + size + ".rsvd.max", value: utoa(r.HugePages[size]), optional: true})
	}
	for _, name := range sortedKeys(r.Unified) {
		if strings.ContainsAny(name, "/") || !strings.Contains(name, ".") {
			return nil, fmt.Errorf("%q is not the name of a cgroup file", name)
		}
		add(name, r.Unified[name])
	}
	return ss, nil
}

// WeightOfShares turns cpu.shares into cpu.weight. The curve goes through
// (2, 1), (1024, 100) and (262144, 10000), so that the default of one is the
// default of the other; container runtimes have agreed on it since 2025.
func WeightOfShares(shares uint64) uint64 {
	switch {
	case shares == 0:
		return 0
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612.0-7.0/34.0)))
}

func maxOr(v int64) string {
	if v < 0 {
		return "max"
	}
	return itoa(v)
}

func nonzero(v uint64) string {
	if v == 0 {
		return ""
	}
	return utoa(v)
}

func itoa(v int64) string  { return strconv.FormatInt(v, 10) }
func utoa(v uint64) string { return strconv.FormatUint(v, 10) }

func sortedKeys[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func firstKey[V any](m map[string]V) string { return sortedKeys(m)[0] }
