package compose

import (
	"fmt"
	"log/slog"
	"os"

	"sagong/config"
	"sagong/scheduler/configuration"
)

// schedulerConfiguration reads the file that --scheduler-config names; nil
// without one.
func schedulerConfiguration(c config.Config, log *slog.Logger) (*configuration.Configuration, error) {
	if c.SchedulerConfig == "" {
		return nil, nil
	}
	data, err := os.ReadFile(c.SchedulerConfig)
	if err != nil {
		return nil, fmt.Errorf("--scheduler-config: %w", err)
	}
	read, err := configuration.Read(data)
	if err != nil {
		return nil, fmt.Errorf("--scheduler-config: cannot use %s: %w", c.SchedulerConfig, err)
	}
	for _, w := range read.Warnings {
		log.Warn("scheduler configuration", "file", c.SchedulerConfig, "warning", w)
	}
	return read, nil
}
