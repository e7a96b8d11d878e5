package native

import (
	"context"
	"fmt"
	"sort"
	"testing"
	"time"

	"sagong/runtime"
)

// percentiles reports the median and the minimum in milliseconds, which on a
// shared machine say more than the mean.
func percentiles(b *testing.B, times []time.Duration) {
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(times[len(times)/2]), "p50-ms")
	b.ReportMetric(ms(times[0]), "min-ms")
	b.ReportMetric(ms(times[len(times)*99/100]), "p99-ms")
}

// BenchmarkStart is a container from nothing to its process executing, in a
// pod that exists.
func BenchmarkStart(b *testing.B) {
	m := newMachine(b)
	uid := m.sandbox()
	ctx := context.Background()
	var times []time.Duration
	b.ResetTimer()
	for i := range b.N {
		c := m.spec(uid, "", func(c *runtime.Container) {
			c.ID, c.Args = fmt.Sprintf("b%d", i), []string{"true"}
			c.Security.Seccomp.Type = benchSeccomp
		})
		began := time.Now()
		if err := m.rt.CreateContainer(ctx, c); err != nil {
			b.Fatal(err)
		}
		if _, err := m.rt.StartContainer(ctx, c.ID); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
		b.StopTimer()
		m.wait(c.ID)
		if err := m.rt.RemoveContainer(ctx, c.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	percentiles(b, times)
}

var benchSeccomp = runtime.SeccompRuntimeDefault

// BenchmarkPod is a pod from nothing to its first process executing.
func BenchmarkPod(b *testing.B) {
	m := newMachine(b)
	ctx := context.Background()
	var times []time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		uid := m.sandbox()
		c := m.spec(uid, "", func(c *runtime.Container) {
			c.Args = []string{"sleep", "1000"}
			c.Security.Seccomp.Type = benchSeccomp
		})
		m.start(c)
		times = append(times, time.Since(began))
		b.StopTimer()
		if err := m.rt.RemoveSandbox(ctx, uid); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	percentiles(b, times)
}

// BenchmarkExec is a command in a running container, to its exit code.
func BenchmarkExec(b *testing.B) {
	m := newMachine(b)
	id := m.start(m.spec(m.sandbox(), "sleep 1000"))
	var times []time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		if _, err := m.rt.Exec(context.Background(), id, runtime.ExecOptions{Args: []string{"true"}}); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	percentiles(b, times)
}

// BenchmarkStats reads one container's statistics.
func BenchmarkStats(b *testing.B) {
	m := newMachine(b)
	id := m.start(m.spec(m.sandbox(), "sleep 1000"))
	b.ResetTimer()
	for range b.N {
		if _, err := m.rt.Stats(context.Background(), id); err != nil {
			b.Fatal(err)
		}
	}
}
