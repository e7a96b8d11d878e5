package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	kubectl "k8s.io/kubectl/pkg/cmd"

	"sagong/config"
)

// kubectlCommand is the real kubectl, pointed at the cluster.
func kubectlCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "kubectl [ARGUMENTS]", Short: "The real kubectl, pointed at the cluster",
		Example: `  sagong kubectl get nodes
  sagong kubectl apply -f examples/hello.yaml
  sagong --name two kubectl get pods -A`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			args = takeName(s, args)
			if err := pointAt(s.name, args); err != nil {
				return err
			}
			// kubectl handles signals where it must, and else expects them to end it.
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			// One that came before has reached the context alone, which kubectl does not heed.
			stop := context.AfterFunc(c.Context(), func() { _ = syscall.Kill(os.Getpid(), syscall.SIGINT) })
			defer stop()
			// kubectl reads os.Args for plugins and for its own name.
			os.Args = append([]string{"kubectl"}, args...)
			cmd := kubectl.NewDefaultKubectlCommandWithArgs(kubectl.KubectlOptions{
				PluginHandler: kubectl.NewDefaultPluginHandler([]string{"kubectl"}),
				Arguments:     os.Args,
				ConfigFlags:   genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50),
				IOStreams:     genericiooptions.IOStreams{In: c.InOrStdin(), Out: s.out, ErrOut: s.err},
			})
			cmd.SetArgs(args)
			return cmd.ExecuteContext(c.Context())
		},
	}
}

// takeName reads --name where it stands before kubectl's own arguments, which
// cobra cannot do for a command that parses no flags.
func takeName(s *session, args []string) []string {
	for len(args) > 0 {
		switch {
		case args[0] == "--name" && len(args) > 1:
			s.name, args = args[1], args[2:]
		case strings.HasPrefix(args[0], "--name="):
			s.name, args = strings.TrimPrefix(args[0], "--name="), args[1:]
		default:
			return args
		}
	}
	return args
}

// pointAt makes the cluster's kubeconfig the default, unless the user names
// another one.
func pointAt(name string, args []string) error {
	for _, a := range args {
		if a == "--kubeconfig" || strings.HasPrefix(a, "--kubeconfig=") || a == "--server" || strings.HasPrefix(a, "--server=") {
			return nil
		}
	}
	file := kubeconfigPath(dataDirOf(name))
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		for _, a := range args {
			// These work without a cluster.
			if a == "--client" || a == "--client=true" || a == "--help" || a == "-h" || a == "completion" || a == "help" {
				return nil
			}
		}
		if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
			return nil // in a pod: kubectl is its service account
		}
		hint := "sagong up"
		if name != config.DefaultName {
			hint += " --name " + name
		}
		return fmt.Errorf("cannot find cluster %q: %s does not exist; start it with '%s'", name, file, hint)
	}
	return os.Setenv("KUBECONFIG", file)
}
