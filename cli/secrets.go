package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sagong/compose"
	"sagong/config"
)

func secretsCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "secrets", Short: "Keys by which Secrets are encrypted on disk",
		Example: "  sagong secrets rotate-key",
		Args:    cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var ask compose.RotateKey
	rotate := &cobra.Command{
		Use: "rotate-key", Short: "Encrypt all Secrets on disk with a new key", Args: cobra.NoArgs,
		Long: `Make a new key, encrypt all Secrets on disk with it and remove every file that
holds them under an older one. The server goes on serving.

Keys of before stay in the key file, so that backups made with them can be
restored; --drop-old deletes them.`,
		Example: "  sagong secrets rotate-key\n  sagong secrets rotate-key --drop-old",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.rotate(c.Context(), compose.KeysPath, &ask)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "All Secrets are encrypted with a new key. %s has %d; keep a copy of it with your backups.\n", compose.EncryptionKeys(cfg), ask.Keys)
			return nil
		},
	}
	rotate.Flags().BoolVar(&ask.DropOld, "drop-old", false, "delete the keys of before: backups made with them can then not be restored")
	c.AddCommand(rotate)
	return c
}

// rotate asks the server for a new key and reads its answer into ask.
func (s *session) rotate(ctx context.Context, path string, ask *compose.RotateKey) (config.Config, error) {
	api, cfg, err := s.connect()
	if err != nil {
		return cfg, err
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return cfg, err
	}
	answer, err := api.CoreV1().RESTClient().Post().AbsPath(path).Body(body).DoRaw(ctx)
	if err != nil {
		if len(answer) > 0 {
			return cfg, errors.New(strings.TrimSpace(string(answer)))
		}
		return cfg, fmt.Errorf("cannot rotate the key: %w", err)
	}
	if err := json.Unmarshal(answer, ask); err != nil {
		return cfg, fmt.Errorf("cannot read the server's answer: %w", err)
	}
	return cfg, nil
}
