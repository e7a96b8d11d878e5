package config

import (
	"os"
	"path/filepath"
	"time"
)

// accessFiles are the settings that name a file which must be there, by flag.
func (c *Config) accessFiles() map[string]*string {
	return map[string]*string{
		"encryption-provider-config": &c.EncryptionProviderConfig,
		"audit-policy-file":          &c.AuditPolicy,
		"audit-webhook-config-file":  &c.AuditWebhook,
	}
}

// accessDurations are the settings that are a time, by flag.
func (c *Config) accessDurations() map[string]*string {
	return map[string]*string{
		"audit-webhook-batch-max-wait":  &c.AuditWebhookBatchWait,
		"audit-webhook-initial-backoff": &c.AuditWebhookBackoff,
	}
}

// Duration is a setting that is a time and was validated; 0 when it is empty.
func (*Config) Duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0
	}
	return d
}

// completeAccess makes paths absolute: 'up' starts a server that runs elsewhere.
func (c *Config) completeAccess() {
	paths := c.accessFiles()
	if c.AuditLog != "off" && c.AuditLog != "-" {
		paths["audit-log-path"] = &c.AuditLog
	}
	for _, p := range paths {
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
	for flag, p := range c.accessDurations() {
		if d, err := time.ParseDuration(*p); *p != "" && (err != nil || d < 0) {
			bad(flag, "%q is not a time such as 30s", *p)
		}
	}
	if c.AuditLogFormat != "json" && c.AuditLogFormat != "legacy" {
		bad("audit-log-format", "%q must be json or legacy", c.AuditLogFormat)
	}
	for flag, n := range map[string]int{
		"audit-log-maxsize": c.AuditLogMaxSize, "audit-log-maxbackup": c.AuditLogMaxBackup, "audit-log-maxage": c.AuditLogMaxAge,
		"audit-webhook-batch-max-size": c.AuditWebhookBatchSize, "audit-webhook-batch-buffer-size": c.AuditWebhookBuffer,
	} {
		if n < 0 {
			bad(flag, "%d must not be negative", n)
		}
	}
}
