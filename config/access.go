package config

import (
	"os"
	"path/filepath"
)

// accessFiles are the settings that name a file which must be there, by flag.
func (c *Config) accessFiles() map[string]*string {
	return map[string]*string{
		"encryption-provider-config": &c.EncryptionProviderConfig,
	}
}

// completeAccess makes paths absolute: 'up' starts a server that runs elsewhere.
func (c *Config) completeAccess() {
	for _, p := range c.accessFiles() {
		if *p == "" {
			continue
		}
		if abs, err := filepath.Abs(*p); err == nil {
			*p = abs
		}
	}
}

func (c *Config) validateAccess(bad func(flag, format string, args ...any)) {
	for flag, p := range c.accessFiles() {
		if *p == "" {
			continue
		}
		if _, err := os.Stat(*p); err != nil {
			bad(flag, "%v", err)
		}
	}
}
