package compose

import (
	"context"
	"errors"
	"log/slog"

	"sagong/config"
	"sagong/lib/progress"
)

// RunAgent runs this machine as a node of a cluster elsewhere until ctx ends.
func RunAgent(ctx context.Context, c config.Config, log *slog.Logger, steps *progress.Reporter) error {
	return errors.New("unfinished")
}
