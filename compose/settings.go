package compose

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"sagong/config"
)

// SettingsFile holds the settings a cluster or an agent was started with, so
// that later verbs act on the same one.
func SettingsFile(dataDir string) string { return filepath.Join(dataDir, "settings.yaml") }

// SaveSettings keeps them, without the join token.
func SaveSettings(c config.Config) error {
	c.Token = ""
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("cannot save the settings: %w", err)
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	return writeFile(SettingsFile(c.DataDir), data)
}
