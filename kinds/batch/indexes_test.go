package batch

import "testing"

func TestCountIndexes(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int32
		err  string
	}{
		{"0", 1, ""}, {"0-2", 3, ""}, {"0,2,4", 3, ""}, {"0-1,3-4", 4, ""},
		{"", 0, ""}, {"a", 0, `cannot convert string to integer for index: "a"`}, {"-1", 0, `cannot convert string to integer for index: ""`},
		{"5", 0, `too large index: "5"`}, {"0-5", 0, `too large index: "5"`}, {"2-1", 0, "non-increasing order, previous: 2, current: 1"},
		{"1,1", 0, "non-increasing order, previous: 1, current: 1"}, {"0-2,2", 0, "non-increasing order, previous: 2, current: 2"}, {"0,", 0, `cannot convert string to integer for index: ""`},
		{"0-1-2", 0, `the fragment "0-1-2" violates the requirement that an index interval can have at most two parts separated by '-'`}, {"99999999999", 0, `too large index: "99999999999"`},
	} {
		n, err := countIndexes(tt.text, 5)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if n != tt.n || got != tt.err {
			t.Errorf("countIndexes(%q) = %d, %q; want %d, %q", tt.text, n, got, tt.n, tt.err)
		}
	}
}

// FuzzCountIndexes: what is counted never exceeds what there is.
func FuzzCountIndexes(f *testing.F) {
	for _, s := range []string{"0", "0-2,4", "1,,2", "99999999999"} {
		f.Add(s, int32(5))
	}
	f.Fuzz(func(t *testing.T, s string, completions int32) {
		n, err := countIndexes(s, completions)
		if err == nil && s != "" && (n <= 0 || n > completions) {
			t.Errorf("countIndexes(%q, %d) = %d", s, completions, n)
		}
	})
}
