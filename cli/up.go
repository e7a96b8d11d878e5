package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"sagong/compose"
	"sagong/config"
	"sagong/lib/process"
	"sagong/lib/progress"
)

// registryDir holds one link a cluster, name to data directory, so that other
// verbs find a cluster by its name alone.
const registryDir = "/run/sagong-clusters"

func upCommand(s *session) *cobra.Command {
	cfg := config.Defaults()
	var noMerge bool
	var nodes int
	c := &cobra.Command{
		Use: "up", Short: "Start a cluster on this machine, in the background", Args: cobra.NoArgs,
		Long: `Start a cluster on this machine, in the background, and wait until its node is
Ready. A cluster that was started before goes on where it stopped, with the
settings it had. The context is written into your kubeconfig, so that your own
kubectl works at once.`,
		Example: `  sagong up
  sagong up --name two                 a second cluster beside the first
  sagong up --listen 0.0.0.0:7443      serve the API on every address
  sagong up --data-dir /srv/sagong     keep its state elsewhere
  sagong up --nodes 3                  three nodes, two of them in network namespaces`,
		RunE: func(c *cobra.Command, _ []string) error {
			return up(c.Context(), s, cfg, c.Flags(), nodes, !noMerge)
		},
	}
	addServerFlags(&cfg, c.Flags())
	c.Flags().IntVar(&nodes, "nodes", 0, "how many nodes to run on this machine, those beside the first in network namespaces of their own (default: as many as before, or 1)")
	c.Flags().BoolVar(&noMerge, "no-kubeconfig", false, "leave your own kubeconfig alone")
	return c
}

// addServerFlags defines every setting but those of an agent; --name is the
// root command's.
func addServerFlags(cfg *config.Config, fs *pflag.FlagSet) {
	var names []string
	for _, x := range config.Settings() {
		switch x.Flag {
		case "name", "server", "token", "ca-hash":
		default:
			names = append(names, x.Flag)
		}
	}
	cfg.AddFlags(fs, names...)
}

func up(ctx context.Context, s *session, flags config.Config, set *pflag.FlagSet, nodes int, merge bool) error {
	if err := needRoot("start a cluster"); err != nil {
		return err
	}
	if nodes < 0 || nodes > 200 {
		return fmt.Errorf("cannot run %d nodes on this machine: --nodes must lie between 1 and 200", nodes)
	}
	begin := time.Now()
	cfg, err := settle(s.name, flags, set)
	if err != nil {
		return err
	}
	if id, running, err := process.Load(compose.PIDFile(cfg)); err != nil {
		return err
	} else if running {
		serves, err := servesOrEnds(ctx, cfg, id)
		if err != nil {
			return err
		}
		if serves {
			fmt.Fprintf(s.out, "Cluster %s runs already (process %d).\n", cfg.Name, id.PID)
			if err := startNodes(ctx, s, cfg, nodes); err != nil {
				return err
			}
			return finish(s, cfg, merge)
		}
	}
	if err := compose.CheckPorts(cfg); err != nil {
		return err
	}
	if err := saveSettings(cfg); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Starting cluster %s\n", cfg.Name)
	show := func(name string, took time.Duration) {
		fmt.Fprintf(s.out, "  %-44s %6.0f ms\n", name, float64(took.Microseconds())/1000)
	}
	show("settings read, ports free", time.Since(begin))
	if err := compose.ConnectExtraNodes(ctx, cfg, 1+compose.ExtraNodes(cfg)); err != nil {
		return err
	}
	if err := spawn(ctx, cfg, show); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "Node %s is Ready after %.2f s.\n", cfg.NodeName, time.Since(begin).Seconds())
	if err := startNodes(ctx, s, cfg, nodes); err != nil {
		return err
	}
	return finish(s, cfg, merge)
}

// servesOrEnds waits until a process that may be starting, or dying, either
// serves the API or is gone.
func servesOrEnds(ctx context.Context, cfg config.Config, id process.ID) (bool, error) {
	for range 100 {
		conn, err := net.DialTimeout("tcp", loopback(cfg), time.Second)
		if err == nil {
			conn.Close()
			return true, nil
		}
		if gone, err := id.Wait(ctx, 100*time.Millisecond); gone || err != nil {
			return false, err
		}
	}
	return false, fmt.Errorf("process %d belongs to cluster %s but does not serve %s; stop it with '%s down --name %s' and start again", id.PID, cfg.Name, loopback(cfg), invocation(), cfg.Name)
}

// settle finds the settings of a cluster: what it was started with before,
// overlaid by the environment and by flags.
func settle(name string, flags config.Config, set *pflag.FlagSet) (config.Config, error) {
	cfg := flags
	cfg.Name = name
	if cfg.DataDir == "" {
		cfg.DataDir = dataDirOf(name)
	}
	saved := compose.SettingsFile(cfg.DataDir)
	fresh := false
	if _, err := os.Stat(saved); errors.Is(err, fs.ErrNotExist) {
		saved, fresh = "", true
	}
	dataDir := cfg.DataDir
	changed := func(flag string) bool { return set.Changed(flag) || flag == "name" }
	if err := cfg.Load(saved, os.LookupEnv, changed); err != nil {
		return cfg, err
	}
	cfg.DataDir = dataDir
	if fresh {
		given := map[string]bool{}
		for _, x := range config.Settings() {
			_, given[x.Flag] = os.LookupEnv(x.Env)
		}
		avoidSiblings(&cfg, func(flag string) bool { return given[flag] || changed(flag) })
	}
	host, err := os.Hostname()
	if err != nil {
		return cfg, fmt.Errorf("cannot find this machine's name: %w (give --node-name)", err)
	}
	cfg.Complete(host, compose.DefaultAddress())
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("cannot use these settings:\n%w", err)
	}
	if !fresh {
		if err := keepAddresses(saved, cfg); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

func saveSettings(cfg config.Config) error {
	if err := compose.SaveSettings(cfg); err != nil {
		return err
	}
	if err := os.MkdirAll(registryDir, 0o755); err != nil {
		return fmt.Errorf("cannot note the cluster's name: %w", err)
	}
	link := filepath.Join(registryDir, cfg.Name)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot note the cluster's name: %w", err)
	}
	if err := os.Symlink(cfg.DataDir, link); err != nil {
		return fmt.Errorf("cannot note the cluster's name: %w", err)
	}
	return nil
}

// keepAddresses refuses to move a living cluster to other address ranges: its
// Services and pods hold addresses out of the old ones.
func keepAddresses(file string, cfg config.Config) error {
	var old config.Config
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, &old)
	}
	if err != nil {
		return fmt.Errorf("cannot read the cluster's settings: %w", err)
	}
	for _, x := range []struct{ flag, was, now string }{
		{"cluster-cidr", old.ClusterCIDR, cfg.ClusterCIDR}, {"service-cidr", old.ServiceCIDR, cfg.ServiceCIDR},
		{"cluster-domain", old.ClusterDomain, cfg.ClusterDomain},
	} {
		if x.was != x.now {
			return fmt.Errorf("cannot change --%s of a cluster from %s to %s: what it holds was given out of the old one; 'sagong down --purge' and start anew", x.flag, x.was, x.now)
		}
	}
	return nil
}

// spawn starts the server in a session of its own and shows its steps until its
// node is Ready.
func spawn(ctx context.Context, cfg config.Config, show func(string, time.Duration)) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	logFile := filepath.Join(cfg.DataDir, "server.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the server's log: %w", err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("cannot open the server's log: %w", err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer in.Close()
	cmd := exec.Command(self, append([]string{"server"}, serverArgs(cfg)...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{out}
	cmd.Env = append(os.Environ(), compose.ProgressVariable+"=3")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		out.Close()
		return fmt.Errorf("cannot start the server: %w", err)
	}
	out.Close()
	stop := context.AfterFunc(ctx, func() { in.SetReadDeadline(time.Now()) })
	defer stop()
	var failed string
	err = progress.Follow(in, func(st progress.Step) {
		if st.Failed != "" {
			failed = st.Failed
			return
		}
		show(st.Name, st.Took)
	})
	switch {
	case failed != "":
		_ = cmd.Wait()
		return errors.New(failed)
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		_ = cmd.Wait()
		return fmt.Errorf("the server ended while it started; the end of %s says:\n%s", logFile, tail(logFile, from))
	}
	return cmd.Process.Release()
}

func tail(file string, from int64) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	from = max(from, size-4000)
	data, err := io.ReadAll(io.NewSectionReader(f, from, size-from))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}

func serverArgs(cfg config.Config) []string {
	// The data directory comes first: it is how people tell servers apart in
	// the process list.
	rest := cfg
	rest.DataDir = ""
	return append([]string{"--data-dir", cfg.DataDir}, rest.Args()...)
}

func finish(s *session, cfg config.Config, merge bool) error {
	var kubectl string
	if merge {
		file, err := mergeKubeconfig(cfg.Name, cfg.DataDir)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "Context %s is written to %s and is the current one.\n", contextName(cfg.Name), file)
		kubectl = "kubectl get nodes                            your own kubectl works as well"
	} else {
		kubectl = "kubectl --kubeconfig " + kubeconfigPath(cfg.DataDir) + " get nodes"
	}
	named := ""
	if cfg.Name != config.DefaultName {
		named = " --name " + cfg.Name
	}
	self := invocation()
	fmt.Fprintf(s.out, `
Next:
  %[1]s%[2]s kubectl apply -f examples/hello.yaml   three pods, a Service and a page
  %[3]s
  %[1]s down%[2]s                                 stop it (--purge: and leave nothing behind)
`, self, named, kubectl)
	return nil
}

// invocation is how the user called this program, for hints that can be copied.
func invocation() string {
	if filepath.Base(os.Args[0]) != "sagong" {
		return "sagong"
	}
	return os.Args[0]
}

// loopback is the API's address for this machine's own clients.
func loopback(cfg config.Config) string {
	_, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		port = "6443"
	}
	return net.JoinHostPort("127.0.0.1", port)
}
