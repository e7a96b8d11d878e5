// Package cli is the command line: one file a verb. A verb parses and prints;
// what it does lives in the packages below.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sagong/config"
)

// Main runs the command line given in args (without the program's name) and
// returns the exit status.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks for an orderly end; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	root := newRoot(os.Stdin, os.Stdout, os.Stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 130
	}
	fmt.Fprintf(os.Stderr, "sagong: %v\n", err)
	return 1
}

// exitCode ends the program with a status after the verb has said everything.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// session is what verbs share: the cluster named and where to print.
type session struct {
	name string
	out  io.Writer
	err  io.Writer
}

func newRoot(in io.Reader, out, errOut io.Writer) *cobra.Command {
	s := &session{out: out, err: errOut}
	root := &cobra.Command{
		Use:   "sagong",
		Short: "A complete Kubernetes in one binary",
		Long: `Sagong is a complete Kubernetes in one binary: API server, scheduler,
controllers, node agent, container runtime and network.`,
		Example: `  sagong up                               start a cluster on this machine
  sagong kubectl get pods -A              drive it; your own kubectl works as well
  sagong status                           what runs, and where
  sagong down --purge                     stop it and leave nothing behind`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.PersistentFlags().StringVar(&s.name, "name", envOr("SAGONG_NAME", config.DefaultName), "cluster to act on")
	root.AddCommand(
		upCommand(s), downCommand(s), statusCommand(s), serverCommand(s), agentCommand(s),
		kubectlCommand(s), imageCommand(s), tokenCommand(s), secretsCommand(s), certsCommand(s), simulateCommand(s), debugCommand(s), versionCommand(s),
	)
	root.SetFlagErrorFunc(seeHelp)
	explain(root)
	return root
}

// seeHelp says where what was typed wrong is explained.
func seeHelp(c *cobra.Command, err error) error {
	return fmt.Errorf("%w (see '%s --help')", err, c.CommandPath())
}

// explain has the check of the arguments of a command, and of those below it, say
// where they are explained.
func explain(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return seeHelp(c, err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		explain(sub)
	}
}

func envOr(key, def string) string {
	if v := strings.TrimSpace(os.Getenv(key)); v != "" {
		return v
	}
	return def
}

func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("cannot %s as %s: containers and their network need root; run it with sudo", what, userName())
	}
	return nil
}

func userName() string {
	if u := os.Getenv("USER"); u != "" {
		return "user " + u
	}
	return fmt.Sprintf("uid %d", os.Geteuid())
}
