package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// countIndexes counts the indexes that a text such as "1,3-5,7" names, which
// must ascend and lie below completions.
func countIndexes(text string, completions int32) (int32, error) {
	if text == "" {
		return 0, fmt.Errorf("must not be empty")
	}
	var total int32
	last := int64(-1)
	number := func(s string) (int64, error) {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", s)
		}
		if n >= int64(completions) {
			return 0, fmt.Errorf("too large index: %q", s)
		}
		return n, nil
	}
	for _, part := range strings.Split(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		from, err := number(low)
		if err != nil {
			return 0, err
		}
		to := from
		if ranged {
			if to, err = number(high); err != nil {
				return 0, err
			}
			if from >= to {
				return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", from, to)
			}
		}
		if from <= last {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, from)
		}
		last = to
		total += int32(to - from + 1)
	}
	return total, nil
}
