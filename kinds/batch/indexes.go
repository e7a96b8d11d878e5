package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// span is the indexes from its first to its last.
type span struct{ first, last int32 }

// countIndexes counts the indexes that a text such as "1,3-5,7" names, which
// must ascend and lie below completions. No text names none.
func countIndexes(text string, completions int32) (total int32, err error) {
	if text == "" {
		return 0, nil
	}
	last := int32(-1)
	for i, part := range strings.Split(text, ",") {
		s, err := parseSpan(part, completions)
		if err != nil {
			return 0, err
		}
		if i > 0 && s.first <= last {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, s.first)
		}
		last = s.last
		total += s.last - s.first + 1
	}
	return total, nil
}

func parseSpan(text string, completions int32) (span, error) {
	ends := strings.Split(text, "-")
	if len(ends) > 2 {
		return span{}, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", text)
	}
	var of [2]int
	for i, end := range ends {
		n, err := strconv.Atoi(end)
		if err != nil {
			return span{}, fmt.Errorf("cannot convert string to integer for index: %q", end)
		}
		if n >= int(completions) {
			return span{}, fmt.Errorf("too large index: %q", end)
		}
		of[i] = n
	}
	if len(ends) == 1 {
		return span{int32(of[0]), int32(of[0])}, nil
	}
	if of[0] >= of[1] {
		return span{}, fmt.Errorf("non-increasing order, previous: %d, current: %d", of[0], of[1])
	}
	return span{int32(of[0]), int32(of[1])}, nil
}

// commonIndex returns the first index that two texts, both ascending, name; parts
// that cannot be read are passed over.
func commonIndex(a, b string, completions int32) (int32, bool) {
	as, bs := spans(a, completions), spans(b, completions)
	for len(as) > 0 && len(bs) > 0 {
		x, y := as[0], bs[0]
		switch {
		case x.first <= y.last && y.first <= x.last:
			return max(x.first, y.first), true
		case x.first <= y.first:
			as = as[1:]
		default:
			bs = bs[1:]
		}
	}
	return 0, false
}

func spans(text string, completions int32) (all []span) {
	if text == "" {
		return nil
	}
	for _, part := range strings.Split(text, ",") {
		if s, err := parseSpan(part, completions); err == nil {
			all = append(all, s)
		}
	}
	return all
}
