package kubelet

import (
	"slices"
	"strings"
	"testing"

	"sagong/kubelet/serve"
)

const netDev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     880      10    0    0    0     0          0         0      880      10    0    0    0     0       0          0
  eth0:18446744073709551615 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0
`

func TestParseLinks(t *testing.T) {
	want := []serve.Link{{Name: "eth0", Received: serve.Traffic{Bytes: 1<<64 - 1, Packets: 2, Errors: 3, Dropped: 4}, Sent: serve.Traffic{Bytes: 5, Packets: 6, Errors: 7, Dropped: 8}}}
	if got := parseLinks(strings.NewReader(netDev)); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func FuzzParseLinks(f *testing.F) {
	f.Add(netDev)
	f.Add("a:\nb: 1 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range parseLinks(strings.NewReader(text)) {
			if l.Name == "lo" || strings.Contains(l.Name, "\n") {
				t.Errorf("an interface called %q", l.Name)
			}
		}
	})
}
