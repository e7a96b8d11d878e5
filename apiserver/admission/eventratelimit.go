package admission

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/lru"

	"sagong/apiserver/resource"
)

// EventLimit bounds the writes of Events that have something in common.
type EventLimit struct {
	// Type is what they have in common: Server (nothing), Namespace, User or
	// SourceAndObject.
	Type string `json:"type"`
	// QPS is how many a second there may be, Burst how many at once.
	QPS   int32 `json:"qps"`
	Burst int32 `json:"burst"`
	// CacheSize is how many namespaces, users or objects are told apart, of which
	// those are forgotten that were not seen for longest; 0 for 4096.
	CacheSize int32 `json:"cacheSize,omitempty"`
}

// ValidateEventLimits finds what is wrong with a configuration.
func ValidateEventLimits(limits []EventLimit) (errs field.ErrorList) {
	path := field.NewPath("limits")
	if len(limits) == 0 {
		errs = append(errs, field.Invalid(path, limits, "must not be empty"))
	}
	for i, l := range limits {
		at := path.Index(i)
		if eventKeys[l.Type] == nil {
			errs = append(errs, field.NotSupported(at.Child("type"), l.Type, []string{"Namespace", "Server", "SourceAndObject", "User"}))
		}
		if l.Burst <= 0 {
			errs = append(errs, field.Invalid(at.Child("burst"), l.Burst, "must be positive"))
		}
		if l.QPS <= 0 {
			errs = append(errs, field.Invalid(at.Child("qps"), l.QPS, "must be positive"))
		}
		if l.Type != "Server" && l.CacheSize < 0 {
			errs = append(errs, field.Invalid(at.Child("cacheSize"), l.CacheSize, "must not be negative"))
		}
	}
	return errs
}

// eventKeys tell what Events have in common.
var eventKeys = map[string]func(*resource.Attributes) string{
	"Server":    func(*resource.Attributes) string { return "" },
	"Namespace": func(a *resource.Attributes) string { return a.Namespace },
	"User": func(a *resource.Attributes) string {
		if a.User == nil {
			return ""
		}
		return a.User.GetName()
	},
	"SourceAndObject": func(a *resource.Attributes) string {
		var source corev1.EventSource
		var about corev1.ObjectReference
		switch e := a.Object.(type) {
		case *corev1.Event:
			source, about = e.Source, e.InvolvedObject
		case *eventsv1.Event:
			source, about = e.DeprecatedSource, e.Regarding
		}
		return strings.Join([]string{source.Component, source.Host, about.Kind, about.Namespace, about.Name, string(about.UID), about.APIVersion}, "")
	},
}

// EventRateLimit refuses Events when there are too many. It is off unless asked
// for, and then needs limits.
type EventRateLimit struct {
	limits []eventLimiter
	now    func() time.Time
}

type eventLimiter struct {
	EventLimit
	mu    *sync.Mutex
	known *lru.Cache // *rate.Limiter by key
}

// NewEventRateLimit enforces limits that were validated.
func NewEventRateLimit(limits []EventLimit, now func() time.Time) EventRateLimit {
	r := EventRateLimit{now: now}
	for _, l := range limits {
		size := int(l.CacheSize)
		if size == 0 {
			size = 4096
		}
		r.limits = append(r.limits, eventLimiter{l, &sync.Mutex{}, lru.New(size)})
	}
	return r
}

// Name implements Plugin.
func (EventRateLimit) Name() string { return "EventRateLimit" }

// Validate implements Validator. Each limit counts the Event, though another refuses
// it.
func (r EventRateLimit) Validate(_ context.Context, a *resource.Attributes) error {
	if a.Definition.Kind != "Event" || a.Definition.Group != "" && a.Definition.Group != eventsv1.GroupName ||
		a.DryRun || a.Operation != resource.Create && a.Operation != resource.Update {
		return nil
	}
	var no error
	for _, l := range r.limits {
		if key := eventKeys[l.Type](a); !l.allow(key, r.now()) {
			no = apierrors.NewTooManyRequestsError(fmt.Sprintf("limit reached on type %v for key %v", l.Type, key))
		}
	}
	return no
}

func (l eventLimiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.known.Get(key)
	if !ok {
		known = rate.NewLimiter(rate.Limit(l.QPS), int(l.Burst))
		l.known.Add(key, known)
	}
	return known.(*rate.Limiter).AllowN(now, 1)
}
