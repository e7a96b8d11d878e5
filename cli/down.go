package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"sagong/compose"
	"sagong/config"
	"sagong/lib/process"
)

func downCommand(s *session) *cobra.Command {
	var purge bool
	var dataDir string
	c := &cobra.Command{
		Use: "down", Short: "Stop the cluster and its containers", Args: cobra.NoArgs,
		Long: `Stop the cluster that 'up' started, with all its containers, and take its
network away. Its state is kept: 'sagong up' goes on with it. With --purge, the
state goes too, and nothing of the cluster is left on this machine.`,
		Example: "  sagong down\n  sagong down --purge\n  sagong down --name two --purge",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot("stop a cluster"); err != nil {
				return err
			}
			if dataDir == "" {
				dataDir = dataDirOf(s.name)
			}
			cfg, err := savedSettings(s.name, dataDir)
			if err != nil {
				return err
			}
			begin := time.Now()
			step := func(format string, args ...any) {
				fmt.Fprintf(s.out, "  %-44s %6.0f ms\n", fmt.Sprintf(format, args...), float64(time.Since(begin).Microseconds())/1000)
				begin = time.Now()
			}
			fmt.Fprintf(s.out, "Stopping cluster %s\n", s.name)
			id, running, err := process.Load(compose.PIDFile(cfg))
			if err != nil {
				return err
			}
			if running {
				if err := id.Stop(c.Context(), unix.SIGTERM, config.ShutdownTime+5*time.Second); err != nil {
					return err
				}
				step("server stopped")
			}
			if err := compose.StopNode(c.Context(), cfg, func(what string) { step("%s", what) }); err != nil {
				return err
			}
			if purge {
				if err := compose.RemoveState(cfg); err != nil {
					return err
				}
				step("state removed")
				if err := unmergeKubeconfig(s.name); err != nil {
					return err
				}
				return forget(s.name)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove the cluster's state too")
	c.Flags().StringVar(&dataDir, "data-dir", "", "data directory, when 'up' was given one")
	return c
}

// savedSettings are those the cluster was started with, or the defaults when
// there are none: down must work on whatever is left of a cluster.
func savedSettings(name, dataDir string) (config.Config, error) {
	cfg := config.Defaults()
	data, err := os.ReadFile(compose.SettingsFile(dataDir))
	if err == nil {
		if err := yaml.Unmarshal(data, &cfg); err != nil {
			return cfg, fmt.Errorf("cannot read the cluster's settings: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return cfg, fmt.Errorf("cannot read the cluster's settings: %w", err)
	}
	cfg.Name, cfg.DataDir = name, dataDir
	host, _ := os.Hostname()
	cfg.Complete(host, compose.DefaultAddress())
	return cfg, nil
}

// forget removes the note of where a cluster keeps its data.
func forget(name string) error {
	if err := os.Remove(filepath.Join(registryDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget cluster %s: %w", name, err)
	}
	// Not empty while others run.
	if err := os.Remove(registryDir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("cannot forget cluster %s: %w", name, err)
	}
	return nil
}
