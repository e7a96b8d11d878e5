package usage

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// BenchmarkParse reads the answer of a node with 1,000 containers.
func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		l := fmt.Sprintf(`{container="c%d",namespace="default",pod="pod-%d"}`, i%5, i/5)
		fmt.Fprintf(&text, "container_cpu_usage_seconds_total%s 12.345678901 1700000000123\ncontainer_memory_working_set_bytes%s 123456789 1700000000123\ncontainer_start_time_seconds%s 1.7000000001e+09\n", l, l, l)
	}
	answer := []byte(text.String())
	b.SetBytes(int64(len(answer)))
	for b.Loop() {
		parse(answer, time.Time{})
	}
}
