package cgroup

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseLayout(t *testing.T) {
	for _, tt := range []struct {
		name, mounts string
		want         Layout
		fails        bool
	}{
		{"unified", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
			Layout{Version: 2, Unified: "/sys/fs/cgroup", V1: map[string]string{}}, false},
		{"hybrid", `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
36 31 0:32 / /elsewhere/memory rw - cgroup cgroup rw,memory
`, Layout{Version: 1, Unified: "/sys/fs/cgroup/unified", V1: map[string]string{"name=systemd": "/sys/fs/cgroup/systemd",
			"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}}, false},
		{"escaped", `30 23 0:26 / /with\040space rw - cgroup2 x rw` + "\n", Layout{Version: 2, Unified: "/with space", V1: map[string]string{}}, false},
		{"none", "22 27 0:21 / /proc rw - proc proc rw\n", Layout{}, true},
	} {
		l, err := ParseLayout(strings.NewReader(tt.mounts))
		if (err != nil) != tt.fails || !reflect.DeepEqual(l, tt.want) {
			t.Errorf("%s: %+v, %v", tt.name, l, err)
		}
	}
}

func FuzzParseLayout(f *testing.F) {
	f.Add("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	f.Add("34 31 0:31 / /c rw - cgroup cgroup rw,cpu,cpuacct\n")
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := ParseLayout(strings.NewReader(s)); err == nil && l.Version != 1 && l.Version != 2 {
			t.Errorf("version %d", l.Version)
		}
	})
}
