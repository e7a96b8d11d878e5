package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"sagong/config"
)

func versionCommand(s *session) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "version", Short: "Print the version of this binary", Args: cobra.NoArgs,
		Example: "  sagong version\n  sagong version -o json",
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{
				"version": config.Version, "kubernetes": config.KubernetesVersion,
				"commit": config.GitCommit(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
			}
			switch output {
			case "json":
				e := json.NewEncoder(s.out)
				e.SetIndent("", "  ")
				return e.Encode(v)
			case "":
				fmt.Fprintf(s.out, "sagong %s (Kubernetes %s, commit %s, %s, %s)\n", v["version"], v["kubernetes"], v["commit"], v["go"], v["platform"])
				return nil
			}
			return fmt.Errorf("cannot print the version as %q: use -o json, or no -o", output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "format: json")
	return c
}
