// Command bench measures the figures that Sagong promises, on clusters of its
// own, and says for each whether it holds on this machine now.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/pprof/profile"
)

// row is one figure or a few that one run gives together.
type row struct {
	name, what string
	figures    []figure
	runs       int // 0: as many as asked for
	// measure does the runs and returns the values of each figure.
	measure func(ctx context.Context, b *bench, runs int) ([][]float64, error)
}

// figure is what is promised: at most, or at least, a value.
type figure struct {
	name, unit string
	target     float64
	atLeast    bool
}

func rows() []row {
	return []row{
		{name: "up", what: "sagong up on an empty data directory to node Ready", measure: measureUp,
			figures: []figure{{unit: "s", target: 1.0}}},
		{name: "first-pod", what: "the same to the first hello pod Ready", measure: measureFirstPod,
			figures: []figure{{unit: "s", target: 1.5}}},
		{name: "idle", what: "the whole server idle, one node, over 20 s", measure: measureIdle,
			figures: []figure{{name: "resident", unit: "MB", target: 90}, {name: "CPU of one core", unit: "%", target: 1}}},
		{name: "pod", what: "create to Running, image present, one pod at a time", measure: measurePod,
			figures: []figure{{name: "p50", unit: "ms", target: 40}, {name: "p99", unit: "ms", target: 100}}},
		{name: "pods-100", what: "100 pods at once on the node, all Running", measure: measurePods100,
			figures: []figure{{unit: "s", target: 5}}},
		{name: "creates", what: "durable creates of a 2.7 KB pod over HTTPS, 64 clients, JSON",
			measure: measureRate(0, creating(jsonType, asJSON(ordinaryPod()))),
			figures: []figure{{unit: "/s", target: 5000, atLeast: true}, {name: "p99", unit: "ms", target: 50}}},
		{name: "creates-protobuf", what: "the same, protobuf",
			measure: measureRate(0, creating(protobufType, asProtobuf(ordinaryPod()))),
			figures: []figure{{unit: "/s", target: 7000, atLeast: true}, {name: "p99", unit: "ms", target: 50}}},
		{name: "gets", what: "gets of a pod, JSON, 64 clients", measure: measureRate(existing, getting),
			figures: []figure{{unit: "/s", target: 25_000, atLeast: true}, {name: "p99", unit: "ms", target: 50}}},
		{name: "applies", what: "server-side applies that change one field, 64 clients", measure: measureRate(existing, applying),
			figures: []figure{{unit: "/s", target: 2500, atLeast: true}, {name: "p99", unit: "ms", target: 100}}},
		{name: "statuses", what: "patches of a pod's status, 64 clients", measure: measureRate(existing, reporting),
			figures: []figure{{unit: "/s", target: 6000, atLeast: true}, {name: "p99", unit: "ms", target: 50}}},
		{name: "fairness", what: "p99 of a tenant's gets and creates while another floods with 64 clients, against a quiet server", measure: measureFairness,
			figures: []figure{{unit: "x", target: 2}}},
		{name: "list", what: "list of 10,000 pods over HTTPS, protobuf", measure: measureList(protobufType),
			figures: []figure{{unit: "ms", target: 25}}},
		{name: "list-json", what: "the same, JSON", measure: measureList(jsonType),
			figures: []figure{{unit: "ms", target: 40}}},
		{name: "endpoint", what: "one endpoint changed among 10,000 Services, until the kernel has it", measure: measureEndpoint,
			figures: []figure{{unit: "ms", target: 5}}},
		{name: "scheduler", what: "the scheduler alone, 5,000 nodes", measure: measureScheduler, figures: schedulerFigures()},
		{name: "watchers", what: "watchers of small objects, JSON", measure: measureWatchers, runs: 3,
			figures: []figure{{name: "1,000 of them, deliveries", unit: "/s", target: 100_000, atLeast: true}, {name: "100 at 1,000 writes/s, p99", unit: "ms", target: 50}}},
		{name: "10k", what: "10 Deployments of 1,000 on 1,000 simulated nodes, to all Ready", measure: measure10k, runs: 3,
			figures: []figure{{name: "time", unit: "s", target: 6}, {name: "CPU of the server", unit: "s", target: 15}, {name: "most memory", unit: "MB", target: 400}}},
		{name: "100k", what: "100 Deployments of 1,000 on 1,000 simulated nodes", measure: measure100k, runs: 1,
			figures: []figure{{name: "to all Ready", unit: "s", target: 60}, {name: "most memory", unit: "MB", target: 1200},
				{name: "then nothing happens, CPU of one core", unit: "%", target: 5}, {name: "20 a second replaced, create to bound, p99", unit: "ms", target: 50},
				{name: "a node dies, pods bound anew", unit: "s", target: 2}}},
		{name: "namespace", what: "a namespace with 10,000 running pods deleted", measure: measureNamespace, runs: 1,
			figures: []figure{{unit: "s", target: 10}}},
		{name: "stored", what: "a server with 100,000 pods and 5,000 nodes", measure: measureStored, runs: 1,
			figures: []figure{{name: "memory", unit: "MB", target: 700}, {name: "restart to ready", unit: "s", target: 2},
				{name: "16 informers start cold, memory more", unit: "MB", target: 64}}},
		{name: "crds", what: "start with 100 CustomResourceDefinitions, to ready and all kinds served", measure: measureCRDs,
			figures: []figure{{unit: "s", target: 1}}},
		{name: "build", what: "clean build of the binary, warm module cache", measure: measureBuild, runs: 1,
			figures: []figure{{name: "time", unit: "min", target: 4}, {name: "binary", unit: "MB", target: 80}}},
	}
}

// bench is what rows share.
type bench struct {
	binary, root     string
	flags, linkFlags string
	progress         *os.File
	note             string // of the row being measured, printed below it
	profile          string // file for a profile of all rows, or empty
	profiles         []*profile.Profile
}

// say shows how far a row is, on one line that the next one overwrites.
func (b *bench) say(format string, args ...any) {
	if b.progress != nil {
		fmt.Fprintf(b.progress, "\r\033[K  "+format, args...)
	}
}

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Exit(code)
}

func run() (code int, err error) {
	all := rows()
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	binary := set.String("binary", "bin/sagong", "the program to measure")
	only := set.String("only", "", "measure these rows alone, as a list with commas")
	runs := set.Int("runs", 5, "how often each row is measured")
	buildFlags := set.String("flags", "", "flags of 'go build', for the row build")
	linkFlags := set.String("ldflags", "", "its -ldflags, for the row build")
	profiles := set.String("profile", "", "write a processor profile of the server in all rows to this file")
	set.Usage = func() {
		fmt.Fprintf(set.Output(), "Measures Sagong's figures on clusters of its own, which it takes down again.\nRun as root, from the top of the repository, as 'make bench' or 'make bench-NAME'.\n\nFlags:\n")
		set.PrintDefaults()
		fmt.Fprintf(set.Output(), "\nRows:\n")
		for _, r := range all {
			fmt.Fprintf(set.Output(), "  %-10s %s\n", r.name, r.what)
		}
	}
	if err := set.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		return 2, nil // the flag package has said why
	}
	if set.NArg() > 0 || *runs < 1 {
		return 2, fmt.Errorf("cannot use %q: see --help", os.Args[1:])
	}
	if *only != "" {
		var chosen []row
		for name := range strings.SplitSeq(*only, ",") {
			i := slices.IndexFunc(all, func(r row) bool { return r.name == name })
			if i < 0 {
				return 2, fmt.Errorf("cannot measure %q: no row has that name; see --help", name)
			}
			chosen = append(chosen, all[i])
		}
		all = chosen
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("cannot measure as this user: clusters need root; run it with sudo")
	}
	b := &bench{flags: *buildFlags, linkFlags: *linkFlags, profile: *profiles}
	if b.binary, err = filepath.Abs(*binary); err != nil {
		return 1, err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return 1, fmt.Errorf("cannot find the program to measure: %w; run 'make build' first", err)
	}
	if b.root, err = os.MkdirTemp("", "sagong-bench-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(b.root)
	if fi, err := os.Stderr.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
		b.progress = os.Stderr
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err = b.all(ctx, all, *runs)
	return code, errors.Join(err, b.writeProfile())
}

// all measures the rows and prints the table as it goes.
func (b *bench) all(ctx context.Context, rows []row, runs int) (code int, err error) {
	begin := time.Now()
	fmt.Printf("%s\nLoad is the machine's (1 minute) before the row.\n\n", machine())
	fmt.Printf("%-10s %-68s %10s %10s %10s %14s %5s  %s\n", "row", "what", "median", "least", "most", "promised", "load", "")
	missed := 0
	for _, r := range rows {
		n := runs
		if r.runs > 0 {
			n = r.runs
		}
		load := loadAverage()
		b.note = ""
		if b.progress == nil {
			fmt.Fprintf(os.Stderr, "measuring %s\n", r.name)
		}
		values, err := r.measure(ctx, b, n)
		b.say("")
		if b.progress != nil {
			fmt.Fprint(b.progress, "\r\033[K")
		}
		if ctx.Err() != nil {
			return 130, errors.New("interrupted; its clusters are down")
		}
		if err != nil {
			fmt.Printf("%-10s %-68s cannot be measured: %v\n", r.name, r.what, err)
			missed++
			continue
		}
		for i, f := range r.figures {
			if !f.print(r, values[i], load) {
				missed++
			}
		}
		if b.note != "" {
			fmt.Printf("%-10s %s\n", "", b.note)
		}
	}
	fmt.Printf("\n%d missed; took %.0f s.\n", missed, time.Since(begin).Seconds())
	if missed > 0 {
		return 1, nil
	}
	return 0, nil
}

func (f figure) print(r row, values []float64, load float64) (held bool) {
	m := median(values)
	held = m <= f.target
	promise := "at most"
	if f.atLeast {
		held, promise = m >= f.target, "at least"
	}
	what, verdict := r.what, "holds"
	if f.name != "" {
		what += ": " + f.name
	}
	if !held {
		verdict = "MISSED"
	}
	show := func(v float64) string {
		if f.target >= 10 {
			return fmt.Sprintf("%.0f %s", v, f.unit)
		}
		return fmt.Sprintf("%.2f %s", v, f.unit)
	}
	fmt.Printf("%-10s %-68s %10s %10s %10s %14s %5.1f  %s\n", r.name, what, show(m), show(slices.Min(values)), show(slices.Max(values)),
		promise+" "+fmt.Sprint(f.target), load, verdict)
	return held
}

// median and the percentiles are those of sorted copies.
func median(v []float64) float64 { return percentile(v, 50) }

func percentile(v []float64, p int) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[min(len(s)-1, len(s)*p/100)]
}
