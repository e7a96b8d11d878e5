package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
)

func BenchmarkOpenEmpty(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// The first use of a built-in image whose binary has 80 MB.
func BenchmarkBuiltinFirstUse(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "binary")
	write(b, binary, []byte(strings.Repeat(noise(1, 1<<20), 80)))
	for b.Loop() {
		b.StopTimer()
		dir, err := os.MkdirTemp(b.TempDir(), "")
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(Options{Dir: dir, Builtins: []Builtin{{Name: "test.local/a:1", Files: []BuiltinFile{{Path: "f", Mode: 0o755, Source: binary}}}}})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := s.Use(context.Background(), "test.local/a:1", "c"); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}

// A pull of about 40 MB compressed, 97 MB and 2,200 files unpacked, in six
// layers, with the CPU time it takes.
func BenchmarkPull(b *testing.B) {
	r := registry(b, registryOptions{})
	var layers [][]byte
	for l := range 6 {
		files := []file{dir(fmt.Sprintf("d%d", l), 0o755)}
		for n := range 370 {
			body := noise(uint64(l*1000+n), 18_000)
			files = append(files, reg(fmt.Sprintf("d%d/%d", l, n), body+strings.Repeat(body[:1300], 20)))
		}
		layers = append(layers, archive(b, files...))
	}
	r.push(b, "big:1", testImage(b, compression.GZip, layers...))
	cpu := func() time.Duration {
		var u syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	var spent time.Duration
	for b.Loop() {
		b.StopTimer()
		dir, err := os.MkdirTemp(b.TempDir(), "")
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		began := cpu()
		b.StartTimer()
		i := pull(b, s, r.host+"/big:1")
		b.StopTimer()
		spent += cpu() - began
		b.SetBytes(i.Size)
		s.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
	b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "cpu-ms/op")
}

// Get and Use as a container that starts calls them.
func BenchmarkUse(b *testing.B) {
	s := open(b, b.TempDir(), func(o *Options) { o.RunDir = b.TempDir() })
	importImage(b, s, "app:1", archive(b, reg("a", "a")), archive(b, reg("b", "b")))
	for b.Loop() {
		if _, err := s.Use(context.Background(), "app:1", "c"); err != nil {
			b.Fatal(err)
		}
		if err := s.Release("c"); err != nil {
			b.Fatal(err)
		}
	}
}
