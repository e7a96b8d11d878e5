package cli

import (
	"context"
	"fmt"
	"time"

	"sagong/compose"
	"sagong/config"
)

// startNodes starts the nodes beside the first: as many as asked for, or as the
// cluster had before when none were.
func startNodes(ctx context.Context, s *session, cfg config.Config, nodes int) error {
	if nodes == 0 {
		nodes = 1 + compose.ExtraNodes(cfg)
	}
	for n := 2; n <= nodes; n++ {
		begin := time.Now()
		name, err := compose.StartExtraNode(ctx, cfg, n)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "Node %s is Ready after %.2f s.\n", name, time.Since(begin).Seconds())
	}
	return nil
}
