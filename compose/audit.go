package compose

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sagong/apiserver/audit"
	"sagong/apiserver/callout"
	"sagong/config"
)

// auditing is what the settings say of audit: a policy, a file, a service. The
// file's writer and the service's are closed last, when nothing is served.
type auditing struct {
	auditor *audit.Auditor // nil for no audit
	log     *audit.Log
	stop    context.CancelFunc
	sending sync.WaitGroup
}

// auditPostTime is how long one request to the service may take.
const auditPostTime = 30 * time.Second

func openAudit(c config.Config, log *slog.Logger) (*auditing, error) {
	log = log.With("room", "audit")
	out := &auditing{stop: func() {}}
	policy := audit.DefaultPolicy()
	if c.AuditPolicy != "" {
		var err error
		if policy, err = audit.ReadPolicy(c.AuditPolicy); err != nil {
			return nil, fmt.Errorf("cannot use --audit-policy-file: %w", err)
		}
	}
	var sinks []audit.Sink
	if c.AuditLog != "off" {
		var err error
		if out.log, err = audit.OpenLog(audit.LogOptions{
			Path: c.AuditLog, Legacy: c.AuditLogFormat == "legacy", MaxSize: int64(c.AuditLogMaxSize) << 20,
			MaxBackups: c.AuditLogMaxBackup, MaxAge: time.Duration(c.AuditLogMaxAge) * 24 * time.Hour, Log: log,
		}); err != nil {
			return nil, err
		}
		sinks = append(sinks, truncating(out.log, c.AuditLogTruncate, c.AuditLogTruncateEvent, log))
	}
	if c.AuditWebhook != "" {
		to, err := callout.Open(c.AuditWebhook, auditPostTime)
		if err != nil {
			return nil, fmt.Errorf("cannot use --audit-webhook-config-file: %w", err)
		}
		to.Wait = c.Duration(c.AuditWebhookBackoff)
		w := audit.NewWebhook(audit.WebhookOptions{
			To: to, BatchSize: c.AuditWebhookBatchSize, BatchWait: c.Duration(c.AuditWebhookBatchWait), Buffer: c.AuditWebhookBuffer, Log: log,
			MaxBytes: batchLimit(c.AuditWebhookTruncate, c.AuditWebhookTruncateBatch),
		})
		ctx, stop := context.WithCancel(context.Background())
		out.stop = stop
		out.sending.Go(func() { _ = w.Run(ctx) })
		sinks = append(sinks, truncating(w, c.AuditWebhookTruncate, c.AuditWebhookTruncateEvent, log))
	}
	if len(sinks) > 0 {
		out.auditor = &audit.Auditor{Policy: policy, Sinks: sinks}
	}
	return out, nil
}

// truncating cuts events that are larger than most bytes, when that is asked for.
func truncating(to audit.Sink, on bool, most int, log *slog.Logger) audit.Sink {
	if !on {
		return to
	}
	return audit.Truncate{To: to, Most: most, Log: log}
}

func batchLimit(on bool, most int) int {
	if !on {
		return 0
	}
	return most
}

func (a *auditing) close() {
	a.stop()
	a.sending.Wait()
	if a.log != nil {
		a.log.Close()
	}
}
