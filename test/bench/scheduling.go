package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// schedulerBenchmarks are the benchmarks of package scheduler behind the row's
// figures, in their order.
var schedulerBenchmarks = []string{
	"Plain50000", "RequiredAntiAffinityWithNamespaceSelector4000", "RequiredAffinity5000", "SpreadOverZones5000", "SpreadSoftly20000", "Preemption5000",
}

func schedulerFigures() []figure {
	rate := func(name string, least float64) figure {
		return figure{name: name, unit: "/s", target: least, atLeast: true}
	}
	return []figure{
		rate("50,000 plain pods", 10_000), rate("required anti-affinity with a namespace selector", 2000), rate("required affinity", 2000),
		rate("spread over zones", 2000), rate("spread by default", 2000), rate("pre-emption", 1000),
	}
}

// measureScheduler runs the scheduler alone, without an API: the go tool builds
// and runs its benchmarks.
func measureScheduler(ctx context.Context, _ *bench, runs int) ([][]float64, error) {
	values := make([][]float64, len(schedulerBenchmarks))
	for range runs {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-benchtime", "1x", "-bench", "^Benchmark("+strings.Join(schedulerBenchmarks, "|")+")$", "./scheduler")
		text, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("cannot run the benchmarks: %w\n%s", err, text)
		}
		for i, name := range schedulerBenchmarks {
			rate, ok := rateOf(text, "Benchmark"+name)
			if !ok {
				return nil, fmt.Errorf("%s says no rate:\n%s", name, text)
			}
			values[i] = append(values[i], rate)
		}
	}
	return values, nil
}

// rateOf finds the pods a second that a benchmark reports.
func rateOf(text []byte, name string) (float64, bool) {
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) == 0 || fields[0] != name && !strings.HasPrefix(fields[0], name+"-") {
			continue
		}
		for i := 1; i < len(fields); i++ {
			if fields[i] == "pods/s" {
				rate, err := strconv.ParseFloat(fields[i-1], 64)
				return rate, err == nil
			}
		}
	}
	return 0, false
}
