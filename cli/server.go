package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sagong/compose"
	"sagong/config"
	"sagong/lib/progress"
)

func serverCommand(s *session) *cobra.Command {
	cfg := config.Defaults()
	var file string
	c := &cobra.Command{
		Use: "server", Short: "Run a server in the foreground, for systemd and the like", Args: cobra.NoArgs,
		Long: `Run a server in the foreground: store, API server, scheduler, controllers and,
unless --no-agent is given, the agent of this machine's node. SIGTERM stops it;
containers go on running, and the next start takes them over.

Every flag can be given as an environment variable (SAGONG_DATA_DIR for
--data-dir) and in a YAML file (dataDir: …) named by --config.`,
		Example: "  sagong server\n  sagong server --config /etc/sagong.yaml\n  SAGONG_LOG_LEVEL=debug sagong server",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot("run a server"); err != nil {
				return err
			}
			return runForeground(c.Context(), s, &cfg, file, c.Flags(), compose.RunServer)
		},
	}
	addServerFlags(&cfg, c.Flags())
	c.Flags().StringVar(&file, "config", envOr("SAGONG_CONFIG", ""), "YAML file with settings")
	return c
}

func agentCommand(s *session) *cobra.Command {
	cfg := config.Defaults()
	var file string
	c := &cobra.Command{
		Use: "agent", Short: "Run a node that joins a cluster, in the foreground", Args: cobra.NoArgs,
		Long: `Run this machine as a node of a cluster that runs elsewhere. 'sagong token
create' on the server prints the whole command line. Once joined, the node has a
certificate of its own, and the token may expire.`,
		Example: "  sagong agent --server https://192.0.2.1:6443 --token abcdef.0123456789abcdef --ca-hash sha256:…",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot("run a node"); err != nil {
				return err
			}
			return runForeground(c.Context(), s, &cfg, file, c.Flags(), compose.RunAgent)
		},
	}
	cfg.AddFlags(c.Flags(), config.AgentFlags...)
	c.Flags().StringVar(&file, "config", envOr("SAGONG_CONFIG", ""), "YAML file with settings")
	return c
}

type runner func(context.Context, config.Config, *slog.Logger, *progress.Reporter) error

func runForeground(ctx context.Context, s *session, cfg *config.Config, file string, set *pflag.FlagSet, run runner) error {
	cfg.Name = s.name
	changed := func(flag string) bool { return set.Changed(flag) || flag == "name" }
	if err := cfg.Load(file, os.LookupEnv, changed); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("cannot find this machine's name: %w (give --node-name)", err)
	}
	cfg.Complete(host, compose.DefaultAddress())
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("cannot use these settings:\n%w", err)
	}
	var steps *progress.Reporter
	if fd, err := strconv.Atoi(os.Getenv(compose.ProgressVariable)); err == nil {
		os.Unsetenv(compose.ProgressVariable)
		// What this process starts must not hold the pipe: its end says that
		// this process has ended.
		syscall.CloseOnExec(fd)
		steps = progress.NewReporter(os.NewFile(uintptr(fd), "progress"), time.Now)
	}
	err = run(ctx, *cfg, newLogger(s.err, cfg.LogLevel), steps)
	if err != nil && ctx.Err() == nil {
		steps.Fail(err)
		return err
	}
	return nil
}

func newLogger(out io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: l}))
}
