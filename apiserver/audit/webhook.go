package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Poster sends an EventList to the service that records it.
type Poster interface {
	Post(ctx context.Context, in, out any) error
}

// WebhookOptions say how events are sent. The zero value of a number is
// upstream's default.
type WebhookOptions struct {
	To Poster
	// BatchSize is how many events one request holds at most, default 400;
	// BatchWait how long an event waits for others, default 30 s; Buffer how many
	// wait at most, default 10,000: beyond it they are lost.
	BatchSize, Buffer int
	BatchWait         time.Duration
	// MaxBytes is how large the events of one request may be together, in bytes of
	// JSON; 0 for as large as they are. A single event is sent in any case.
	MaxBytes int
	Log      *slog.Logger
}

// Batches a second, and how many at once, as upstream has them.
const (
	batchRate  = 10
	batchBurst = 15
)

// Webhook is the Sink that sends events in batches to a service.
type Webhook struct {
	o      WebhookOptions
	events chan auditv1.Event

	mu   sync.Mutex
	lost int // since they were last reported
}

// NewWebhook makes the sink; Run must run for it to send.
func NewWebhook(o WebhookOptions) *Webhook {
	if o.BatchSize <= 0 {
		o.BatchSize = 400
	}
	if o.Buffer <= 0 {
		o.Buffer = 10_000
	}
	if o.BatchWait <= 0 {
		o.BatchWait = 30 * time.Second
	}
	return &Webhook{o: o, events: make(chan auditv1.Event, o.Buffer)}
}

// Write implements Sink. It never waits.
func (w *Webhook) Write(e *auditv1.Event) {
	select {
	case w.events <- *e:
	default:
		w.mu.Lock()
		w.lost++
		w.mu.Unlock()
	}
}

// Run sends until ctx ends, and then what is left.
func (w *Webhook) Run(ctx context.Context) error {
	limit := rate.NewLimiter(batchRate, batchBurst)
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		batch, more := w.collect(ctx)
		if len(batch) > 0 {
			// Limits only hold while there is time: at the end all must go.
			_ = limit.Wait(ctx)
			for _, part := range w.parts(batch) {
				sending.Go(func() { w.send(context.WithoutCancel(ctx), part) })
			}
		}
		if !more {
			return ctx.Err()
		}
	}
}

// collect takes events until there is a batch or the first has waited long
// enough. more is false when ctx has ended and nothing is left.
func (w *Webhook) collect(ctx context.Context) (batch []auditv1.Event, more bool) {
	var due <-chan time.Time
	for len(batch) < w.o.BatchSize {
		select {
		case e := <-w.events:
			batch = append(batch, e)
			if due == nil {
				timer := time.NewTimer(w.o.BatchWait)
				defer timer.Stop()
				due = timer.C
			}
		case <-due:
			return batch, true
		case <-ctx.Done():
			for len(batch) < w.o.BatchSize {
				select {
				case e := <-w.events:
					batch = append(batch, e)
				default:
					return batch, false
				}
			}
			return batch, true
		}
	}
	return batch, true
}

// parts divides a batch into those that are not too large.
func (w *Webhook) parts(batch []auditv1.Event) (all [][]auditv1.Event) {
	if w.o.MaxBytes <= 0 {
		return [][]auditv1.Event{batch}
	}
	from, bytes := 0, 0
	for i := range batch {
		n := size(&batch[i])
		if i > from && bytes+n > w.o.MaxBytes {
			all = append(all, batch[from:i:i])
			from, bytes = i, 0
		}
		bytes += n
	}
	return append(all, batch[from:])
}

func (w *Webhook) send(ctx context.Context, batch []auditv1.Event) {
	list := auditv1.EventList{Items: batch}
	list.Kind, list.APIVersion = "EventList", "audit.k8s.io/v1"
	err := w.o.To.Post(ctx, &list, nil)
	w.mu.Lock()
	lost := w.lost
	w.lost = 0
	w.mu.Unlock()
	if err != nil {
		w.o.Log.Error("cannot send audit events", "events", len(batch), "err", err)
	}
	if lost > 0 {
		w.o.Log.Error("audit events were lost: the webhook is too slow", "events", lost)
	}
}
