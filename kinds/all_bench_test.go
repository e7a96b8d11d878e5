package kinds

import (
	"testing"

	"sagong/object"
)

// BenchmarkAll is what every process pays for its kinds at start.
func BenchmarkAll(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		object.NewScheme(every()...)
	}
}
