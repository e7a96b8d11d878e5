package workloads

import (
	"slices"
	"strconv"
	"strings"
)

// indexes is a set of completion indexes of a Job, printed as "1,3-5".
type indexes map[int]struct{}

// parseIndexes reads the printed form. What cannot be read, or is not below
// limit, is left out, as status may be from before a change of completions.
func parseIndexes(s string, limit int) indexes {
	set := indexes{}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		for i := first; i <= last && i < limit; i++ {
			set[i] = struct{}{}
		}
	}
	return set
}

func (s indexes) has(i int) bool {
	_, ok := s[i]
	return ok
}

func (s indexes) add(i int) { s[i] = struct{}{} }

// String prints runs of three and more as ranges, and those of two as well, as
// upstream does.
func (s indexes) String() string {
	all := make([]int, 0, len(s))
	for i := range s {
		all = append(all, i)
	}
	slices.Sort(all)
	var b strings.Builder
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(all[i]))
		switch {
		case j == i+1:
			b.WriteByte(',')
			b.WriteString(strconv.Itoa(all[j]))
		case j > i:
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(all[j]))
		}
		i = j + 1
	}
	return b.String()
}
