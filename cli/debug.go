package cli

import (
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func debugCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "debug", Short: "Look inside this machine's node",
		Example: "  sagong debug nft\n  sagong debug stacks",
		Args:    cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	show := func(use, short, path string) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, Example: "  sagong debug " + use,
			RunE: func(c *cobra.Command, _ []string) error {
				resp, err := s.agent(c, http.MethodGet, path, nil, nil)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				_, err = io.Copy(s.out, resp.Body)
				return err
			},
		}
	}
	c.AddCommand(show("nft", "Print the Service tables in the kernel, for people", "/debug/nft"),
		show("stacks", "Print what every goroutine does", "/debug/stacks"))
	return c
}
