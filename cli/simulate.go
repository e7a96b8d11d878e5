package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/tools/clientcmd"

	"sagong/client/remote"
	"sagong/config"
	"sagong/kinds"
	"sagong/object"
	"sagong/simulate"
)

func simulateCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "simulate", Short: "Simulate nodes, to test and size a cluster",
		Example: "  sagong simulate nodes --count 1000",
		Args:    cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(simulateNodesCommand(s))
	return c
}

// fleetGarbage is the garbage a fleet may gather, in percent of what lives.
const fleetGarbage = 300

// fleetFlags are what the configuration of a fleet cannot hold as a flag gives
// it.
type fleetFlags struct {
	kubeconfig, cpu, memory string
	pods                    int
	capacity, labels        map[string]string
	taints                  []string
}

func simulateNodesCommand(s *session) *cobra.Command {
	cfg := simulate.Config{
		LeaseDuration: 40 * time.Second, StatusInterval: 5 * time.Minute, Writers: 32,
		Kill: simulate.Outage{After: time.Minute, State: simulate.StateDown},
	}
	var f fleetFlags
	for _, d := range []struct {
		into *simulate.Distribution
		text string
	}{{&cfg.StartDelay, "1s..3s"}, {&cfg.StopDelay, "0s..1s"}, {&cfg.RunFor, "10s"}, {&cfg.CrashAfter, "exp:30s"}} {
		if err := d.into.Set(d.text); err != nil {
			panic(err)
		}
	}
	c := &cobra.Command{
		Use: "nodes", Short: "Run node agents without containers, thousands in one process", Args: cobra.NoArgs,
		Long: `Run node agents without containers until interrupted. Over the public API they
behave as real ones do: they register, renew leases, report status, take pods and
report them Running after a while, stop them within their grace, complete those of
Jobs, and refuse what does not fit. At the end the nodes are removed; their pods
are then treated as those of any node that is gone.

Durations may be random: 2s, 1s..3s, normal:2s,500ms or exp:2s.

Single pods say how they behave by annotations:
  simulate.sagong.io/start-delay, run-for, crash-after   a duration as above
  simulate.sagong.io/exit-code                           0 to 255
A node fails while it has the annotation simulate.sagong.io/state:
  down      its containers are lost and start again when it comes back
  cut-off   it is silent, its containers go on`,
		Example: `  sagong simulate nodes --count 1000
  sagong simulate nodes --count 50 --cpu 8 --memory 32Gi --zones 3 --start-delay 2s..10s
  sagong simulate nodes --count 200 --kill 10 --kill-after 1m --kill-for 5m
  sagong simulate nodes --count 100 --crash-share 0.02 --crash-after exp:5m
  sagong simulate nodes --prefix gpu --count 8 --capacity nvidia.com/gpu=8 --taint gpu=yes:NoSchedule
  sagong kubectl annotate node sim-7 simulate.sagong.io/state=down`,
		RunE: func(c *cobra.Command, _ []string) error {
			return simulateNodes(c.Context(), s, cfg, f)
		},
	}
	set := c.Flags()
	set.IntVar(&cfg.Count, "count", 1000, "how many nodes")
	set.StringVar(&cfg.Prefix, "prefix", "sim", "nodes are called PREFIX-0, PREFIX-1, …")
	set.StringVar(&f.cpu, "cpu", "32", "processors of a node")
	set.StringVar(&f.memory, "memory", "128Gi", "memory of a node")
	set.IntVar(&f.pods, "pods", 110, "pods that fit on a node")
	set.StringToStringVar(&f.capacity, "capacity", nil, "further resources of a node, as NAME=QUANTITY")
	set.IntVar(&cfg.Zones, "zones", 0, "spread the nodes over this many zones")
	set.StringToStringVar(&f.labels, "label", nil, "labels of the nodes, as KEY=VALUE")
	set.StringSliceVar(&f.taints, "taint", nil, "taints of the nodes, as KEY=VALUE:EFFECT")
	set.Var(&cfg.StartDelay, "start-delay", "from a pod's arrival to its start")
	set.Var(&cfg.StopDelay, "stop-delay", "from the wish to stop a pod to its end, at most its grace")
	set.Var(&cfg.RunFor, "run-for", "how long pods run that are to complete")
	set.Float64Var(&cfg.CrashShare, "crash-share", 0, "share of the pods that crash, from 0 to 1")
	set.Var(&cfg.CrashAfter, "crash-after", "from the start of such a pod to its crash")
	set.IntVar(&cfg.Kill.Nodes, "kill", 0, "take this many nodes down, chosen at random")
	set.DurationVar(&cfg.Kill.After, "kill-after", cfg.Kill.After, "when, counted from when all are Ready")
	set.DurationVar(&cfg.Kill.For, "kill-for", 0, "for how long; 0 is for good")
	set.StringVar(&cfg.Kill.State, "kill-how", cfg.Kill.State, "down or cut-off, see above")
	set.DurationVar(&cfg.LeaseDuration, "lease-duration", cfg.LeaseDuration, "of a node's lease, which is renewed at a quarter of it")
	set.DurationVar(&cfg.StatusInterval, "status-interval", cfg.StatusInterval, "how often an unchanged node status is written")
	set.IntVar(&cfg.Writers, "writers", cfg.Writers, "how many requests are under way at a time")
	set.Uint64Var(&cfg.Seed, "seed", 0, "of all that is random")
	set.BoolVar(&cfg.Keep, "keep", false, "leave the nodes behind at the end")
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "the cluster to join, instead of the one named by --name")
	return c
}

func simulateNodes(ctx context.Context, s *session, cfg simulate.Config, f fleetFlags) error {
	if err := f.apply(&cfg); err != nil {
		return err
	}
	file := f.kubeconfig
	if file == "" {
		if err := pointAt(s.name, nil); err != nil {
			return err
		}
		file = kubeconfigPath(dataDirOf(s.name))
	}
	rest, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", file, err)
	}
	rest.QPS = -1
	if os.Getenv("GOGC") == "" {
		// Most of what a fleet makes are messages, which do not live: it shares the
		// processors with what it measures.
		debug.SetGCPercent(fleetGarbage)
	}
	cfg.Log = newLogger(s.err, "warn")
	if cfg.Client, err = remote.New(rest, object.NewScheme(kinds.All()...), "simulate"); err != nil {
		return err
	}
	begin := time.Now()
	fleet, err := simulate.New(cfg)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- fleet.Run(ctx) }()
	select {
	case <-fleet.Ready():
		fmt.Fprintf(s.out, "%d nodes are Ready after %.1f s; interrupt to remove them.\n", cfg.Count, time.Since(begin).Seconds())
		err = <-done
	case err = <-done:
	}
	t := fleet.Stats()
	fmt.Fprintf(s.out, "%d pods started, %d ended by themselves, %d refused, %d removed, %d left; %d writes of pods and %d of nodes, %d lost to others, %d failed.\n",
		t.Started, t.Ended, t.Refused, t.Removed, t.Pods, t.PodWrites, t.NodeWrites, t.Conflicts, t.Errors)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		// The wish to end was carried out; what else went wrong stays an error.
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			return errors.Join(joined.Unwrap()[1:]...)
		}
		return nil
	}
	return err
}

// apply reads the flags that need it.
func (f *fleetFlags) apply(cfg *simulate.Config) error {
	cfg.Version, cfg.Labels, cfg.Capacity = config.KubernetesVersion, f.labels, corev1.ResourceList{}
	quantity := func(flag, name, text string) error {
		q, err := resource.ParseQuantity(text)
		if err != nil || q.Sign() < 0 {
			return fmt.Errorf("cannot use --%s: %q is no quantity", flag, text)
		}
		cfg.Capacity[corev1.ResourceName(name)] = q
		return nil
	}
	errs := []error{
		quantity("cpu", "cpu", f.cpu), quantity("memory", "memory", f.memory),
		quantity("pods", "pods", fmt.Sprint(f.pods)),
	}
	for name, text := range f.capacity {
		errs = append(errs, quantity("capacity "+name, name, text))
	}
	for _, text := range f.taints {
		t, err := simulate.ParseTaint(text)
		errs = append(errs, err)
		cfg.Taints = append(cfg.Taints, t)
	}
	return errors.Join(errs...)
}

var _ pflag.Value = (*simulate.Distribution)(nil)
