package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"sagong/compose"
)

func certsCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "certs", Short: "Keys and certificates of the cluster",
		Example: "  sagong certs rotate-token-key",
		Args:    cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var ask compose.RotateKey
	rotate := &cobra.Command{
		Use: "rotate-token-key", Short: "Sign tokens of service accounts with a new key", Args: cobra.NoArgs,
		Long: `Make a new key for the tokens of service accounts. Tokens signed with the keys of
before are taken until they expire; --drop-old makes them void at once: pods then
run without a token until their node has fetched a new one.`,
		Example: "  sagong certs rotate-token-key\n  sagong certs rotate-token-key --drop-old",
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := s.rotate(c.Context(), compose.TokenKeysPath, &ask); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Tokens are signed with a new key; %d verify them.\n", ask.Keys)
			return nil
		},
	}
	rotate.Flags().BoolVar(&ask.DropOld, "drop-old", false, "make tokens signed with the keys of before void")
	c.AddCommand(rotate)
	return c
}
