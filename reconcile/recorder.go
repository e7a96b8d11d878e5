package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"sagong/client"
	"sagong/object"
)

const (
	// maxQueued events wait to be written; further ones are dropped, as events
	// must never hold up what they are about.
	maxQueued = 8192
	// maxBatch events are written at once.
	maxBatch = 512
	// writeLimit is how long one batch may take.
	writeLimit = 5 * time.Second
	// maxMessage is what the API allows a message, in bytes.
	maxMessage = 1024
)

// Recorder writes the Events of any number of components from one goroutine, in
// batches. Take a component's client.Recorder from For.
type Recorder struct {
	c    client.Client
	def  *object.Definition
	from func(runtime.Object) (object.Object, error) // core/v1 to the stored version
	log  *slog.Logger

	mu      sync.Mutex
	queued  []*corev1.Event
	dropped int
	last    int64         // the newest stamp given
	wake    chan struct{} // one slot: there is something to write
}

// NewRecorder makes a recorder that writes once Run runs.
func NewRecorder(c client.Client, log *slog.Logger) *Recorder {
	kind := corev1.SchemeGroupVersion.WithKind("Event")
	r := &Recorder{c: c, def: c.Scheme().ByKind(kind), log: log, wake: make(chan struct{}, 1)}
	if r.def == nil {
		panic("reconcile: kind Event is not in the scheme")
	}
	if r.def.GVK() == kind {
		r.from = func(o runtime.Object) (object.Object, error) { return o.(object.Object), nil }
	}
	for _, v := range r.def.Served {
		if v.Group == kind.Group && v.Version == kind.Version {
			r.from = v.From
		}
	}
	return r
}

// stamp is a time in nanoseconds that no event before was given: two of one
// moment would have the same name, and only one would be kept.
func (r *Recorder) stamp(now time.Time) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last+1, now.UnixNano())
	return r.last
}

// For returns the recorder of a component such as "deployment-controller". host
// is empty but for node agents.
func (r *Recorder) For(component, host string) client.Recorder {
	return &componentRecorder{r: r, component: component, host: host}
}

type componentRecorder struct {
	r               *Recorder
	component, host string
}

func (c *componentRecorder) Eventf(regarding object.Object, eventType, reason, format string, args ...any) {
	c.EventForField(regarding, "", eventType, reason, format, args...)
}

func (c *componentRecorder) EventForField(regarding object.Object, fieldPath, eventType, reason, format string, args ...any) {
	now := time.Now()
	ref := corev1.ObjectReference{
		Namespace: regarding.GetNamespace(), Name: regarding.GetName(), UID: regarding.GetUID(),
		ResourceVersion: regarding.GetResourceVersion(), FieldPath: fieldPath,
	}
	if d := c.r.c.Scheme().ByObject(regarding); d != nil {
		ref.APIVersion, ref.Kind = d.GVK().ToAPIVersionAndKind()
	} else {
		ref.APIVersion, ref.Kind = regarding.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	}
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	if len(message) > maxMessage {
		message = message[:maxMessage-3] + "..."
	}
	c.r.queue(&corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: eventName(ref.Name, c.r.stamp(now))},
		InvolvedObject: ref,
		Reason:         reason, Message: message, Type: eventType,
		Source:         corev1.EventSource{Component: c.component, Host: c.host},
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now), Count: 1,
		ReportingController: c.component, ReportingInstance: c.host,
	})
}

// eventName is upstream's "<name>.<hex nanoseconds>", shortened where the name
// would become too long for one.
func eventName(name string, nanos int64) string {
	stamp := fmt.Sprintf(".%x", nanos)
	if most := validation.DNS1123SubdomainMaxLength - len(stamp); len(name) > most {
		name = name[:most]
	}
	return name + stamp
}

func (r *Recorder) queue(e *corev1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queued) >= maxQueued {
		r.dropped++
		return
	}
	r.queued = append(r.queued, e)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run writes events until ctx ends, and what is queued then.
func (r *Recorder) Run(ctx context.Context) error {
	cor := newCorrelator()
	// A batch that is under way when ctx ends is still written: what an event
	// tells of has happened.
	writing := context.WithoutCancel(ctx)
	for {
		select {
		case <-ctx.Done():
			r.flush(writing, cor)
			return ctx.Err()
		case <-r.wake:
			r.flush(writing, cor)
		}
	}
}

func (r *Recorder) flush(ctx context.Context, cor *correlator) {
	for {
		r.mu.Lock()
		n := min(len(r.queued), maxBatch)
		events := r.queued[:n:n]
		r.queued = r.queued[n:]
		dropped := r.dropped
		r.dropped = 0
		r.mu.Unlock()
		if dropped > 0 {
			r.log.Warn("events were dropped, too many at once", "count", dropped)
		}
		if n == 0 {
			return
		}
		r.write(ctx, cor.correlate(events))
	}
}

// write stores events: new ones, and counts of known ones. A known one that has
// expired meanwhile is made again.
func (r *Recorder) write(ctx context.Context, observed []*observation) {
	for round := 0; len(observed) > 0 && round < 2; round++ {
		ctx, cancel := context.WithTimeout(ctx, writeLimit)
		defer cancel()
		writes := make([]client.Write, 0, len(observed))
		sent := observed[:0:0]
		for _, o := range observed {
			obj, err := r.from(o.event.DeepCopy())
			if err != nil {
				r.log.Warn("cannot write event", "err", err)
				continue
			}
			op := client.OpCreate
			if o.stored {
				op = client.OpUpdate
			}
			writes = append(writes, client.Write{Op: op, Definition: r.def, Object: obj})
			sent = append(sent, o)
		}
		observed = nil
		for i, res := range r.c.Batch(ctx, writes) {
			o := sent[i]
			switch {
			case res.Err == nil:
				o.stored = true
			case o.stored && apierrors.IsNotFound(res.Err):
				o.stored = false
				observed = append(observed, o)
			case isTerminating(res.Err):
				// Its namespace is on its way out.
			default:
				r.log.Debug("cannot write event", "event", o.event.Name, "err", res.Err)
			}
		}
	}
}

func isTerminating(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
