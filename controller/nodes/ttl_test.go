package nodes

import "testing"

func TestTTLSteps(t *testing.T) {
	var c ttlController
	for _, x := range []struct{ size, seconds int }{
		{1, 0}, {100, 0}, {101, 15}, {90, 15}, {89, 0}, {500, 15}, {501, 30}, {450, 30}, {449, 15},
		{1001, 60}, {2001, 300}, {10001, 600}, {9000, 600}, {8999, 300}, {0, 0},
	} {
		if got := c.resized(x.size - c.size); got != x.seconds {
			t.Errorf("%d nodes: %d s, want %d", x.size, got, x.seconds)
		}
	}
}
