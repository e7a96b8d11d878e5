package resource

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestShortages(t *testing.T) {
	c := Config{}.Defaults()
	full := Signals{Memory: Memory{Total: 8 << 30, Available: 4 << 30}, Nodefs: Disk{Total: 100, Available: 50, Inodes: 100, InodesFree: 50}, PIDs: 10, PIDLimit: 1000}
	full.Images = full.Nodefs
	for name, x := range map[string]struct {
		change func(*Signals)
		want   string
	}{
		"nothing": {func(*Signals) {}, ""},
		"memory":  {func(s *Signals) { s.Memory.Available = 90 << 20 }, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. "},
		"disk":    {func(s *Signals) { s.Nodefs.Available = 9; s.Images = s.Nodefs }, "The node was low on resource: ephemeral-storage. Threshold quantity: 10, available: 9. "},
		"images":  {func(s *Signals) { s.Images = Disk{Total: 100, Available: 14} }, "The node was low on resource: ephemeral-storage. Threshold quantity: 15, available: 14. "},
		"inodes":  {func(s *Signals) { s.Nodefs.InodesFree = 4; s.Images = s.Nodefs }, "The node was low on resource: inodes. Threshold quantity: 5, available: 4. "},
		"pids":    {func(s *Signals) { s.PIDs = 960 }, "The node was low on resource: pids. Threshold quantity: 50, available: 40. "},
	} {
		s := full
		x.change(&s)
		got := ""
		for _, sh := range Shortages(s, c) {
			got += sh.String()
		}
		if got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

func TestPressureStaysAWhile(t *testing.T) {
	c := Config{}.Defaults()
	var tr Tracker
	now := time.Unix(1e9, 0)
	if p := tr.Update([]Shortage{{Resource: "memory"}}, now, c); p != (Pressure{Memory: true}) {
		t.Errorf("%+v", p)
	}
	if p := tr.Update(nil, now.Add(4*time.Minute), c); !p.Memory {
		t.Error("the condition flaps")
	}
	if p := tr.Update(nil, now.Add(5*time.Minute), c); p.Memory {
		t.Error("the condition never ends")
	}
}

func candidate(name, request string, priority int32, usage int64) Candidate {
	p := &corev1.Pod{}
	p.Name, p.Spec.Priority = name, &priority
	c := corev1.Container{Name: "c"}
	if request != "" {
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(request)}
	}
	p.Spec.Containers = []corev1.Container{c}
	return Candidate{Pod: p, Usage: usage}
}

func TestVictim(t *testing.T) {
	for want, list := range map[string][]Candidate{
		"over":     {candidate("within", "100", -5, 90), candidate("over", "10", 0, 20)},
		"low":      {candidate("high", "10", 10, 1000), candidate("low", "10", 1, 20)},
		"greedy":   {candidate("modest", "10", 0, 20), candidate("greedy", "10", 0, 30)},
		"ordinary": {candidate("system", "", 2000001000, 1000), candidate("ordinary", "100", 0, 1)},
		"":         {candidate("system", "", 2000000000, 1000)},
	} {
		got := ""
		if v := Victim("memory", list); v != nil {
			got = v.Pod.Name
		}
		if got != want {
			t.Errorf("evicts %q, want %q", got, want)
		}
	}
}

func TestOverLimit(t *testing.T) {
	one := resource.MustParse("1Mi")
	p := &corev1.Pod{Spec: corev1.PodSpec{
		Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &one}}}, {Name: "w", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("2Mi")}}}},
	}}
	for want, l := range map[string]Local{
		"": {EmptyDirs: map[string]int64{"v": 1 << 20}, Containers: map[string]int64{"c": 1 << 20}},
		"Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ":                    {EmptyDirs: map[string]int64{"v": 1<<20 + 1}},
		"Container c exceeded its local ephemeral storage limit \"2Mi\". ":              {Containers: map[string]int64{"c": 3 << 20}},
		"Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ": {EmptyDirs: map[string]int64{"w": 2 << 20}, Containers: map[string]int64{"c": 1 << 20}},
	} {
		if got := OverLimit(p, l); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if !StorageLimited(p) || StorageLimited(&corev1.Pod{}) {
		t.Error("limits are not recognised")
	}
}

func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	c := Config{LogMaxSize: 10, LogMaxFiles: 4}
	now := time.Unix(1e9, 0)
	reopen := func() error { return os.WriteFile(path, nil, 0o644) }
	if did, err := Rotate(path, c, now, reopen); did || err != nil {
		t.Errorf("a log that is not there: %v %v", did, err)
	}
	for i := range 6 {
		if err := os.WriteFile(path, []byte(strings.Repeat(string(rune('a'+i)), 10)), 0o644); err != nil {
			t.Fatal(err)
		}
		if did, err := Rotate(path, c, now.Add(time.Duration(i)*time.Minute), reopen); !did || err != nil {
			t.Fatalf("%v %v", did, err)
		}
	}
	if did, _ := Rotate(path, c, now, reopen); did {
		t.Error("rotated a small log")
	}
	old := Rotated(path)
	if len(old) != 3 || !strings.HasSuffix(old[0], ".gz") || !strings.HasSuffix(old[1], ".gz") || strings.HasSuffix(old[2], ".gz") {
		t.Fatalf("kept %v", old)
	}
	f, err := os.Open(old[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := io.ReadAll(z); string(data) != "dddddddddd" {
		t.Errorf("the oldest is %q", data)
	}
	// A writer that cannot move on keeps its file.
	os.WriteFile(path, []byte("0123456789"), 0o644)
	if _, err := Rotate(path, c, now.Add(time.Hour), func() error { return errors.New("no") }); err == nil {
		t.Error("an error was lost")
	}
	if data, _ := os.ReadFile(path); string(data) != "0123456789" {
		t.Errorf("the log is %q", data)
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	before := Tree(dir)
	os.WriteFile(filepath.Join(dir, "a"), make([]byte, 1<<20), 0o644)
	os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	if got := Tree(dir) - before; got < 1<<20 || got > 1<<20+64<<10 {
		t.Errorf("counted %d bytes for one file of 1 MiB with two names", got)
	}
}
