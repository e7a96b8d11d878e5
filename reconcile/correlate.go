package reconcile

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"
)

// Upstream's figures (client-go tools/record).
const (
	correlated        = 4096 // entries of each memory
	aggregateAfter    = 10   // different messages of one reason about one object
	aggregateInterval = 10 * time.Minute
	spamBurst         = 25
	spamRefill        = 5 * time.Minute // for one event
)

// correlator turns events into what is written of them: the same again counts
// up the one there is, many that differ in their message only become one, and a
// source that says too much about an object is not heard for a while. It belongs
// to one goroutine.
type correlator struct {
	seen   *lru.Cache // event key -> *observation
	groups *lru.Cache // group key -> *group
	spam   *lru.Cache // spam key -> *bucket
}

// observation is the state of one written (or to be written) event.
type observation struct {
	event  *corev1.Event
	stored bool
	listed bool // in the batch being made
}

type group struct {
	messages map[string]bool
	last     time.Time
}

type bucket struct {
	tokens float64
	last   time.Time
}

func newCorrelator() *correlator {
	return &correlator{seen: lru.New(correlated), groups: lru.New(correlated), spam: lru.New(correlated)}
}

// correlate returns what to write for the events given, each once.
func (c *correlator) correlate(events []*corev1.Event) []*observation {
	var out []*observation
	for _, e := range events {
		o := c.observe(e)
		if o != nil && !o.listed {
			o.listed = true
			out = append(out, o)
		}
	}
	for _, o := range out {
		o.listed = false
	}
	return out
}

func (c *correlator) observe(e *corev1.Event) *observation {
	now := e.LastTimestamp.Time
	about := strings.Join([]string{
		e.Source.Component, e.Source.Host, e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name,
		string(e.InvolvedObject.UID), e.InvolvedObject.APIVersion, e.Type,
	}, "\x00")
	groupKey := about + "\x00" + e.Reason
	key := groupKey + "\x00" + e.InvolvedObject.FieldPath + "\x00" + e.Message

	g, _ := get[*group](c.groups, groupKey)
	if g == nil || now.Sub(g.last) > aggregateInterval {
		g = &group{messages: map[string]bool{}}
		c.groups.Add(groupKey, g)
	}
	g.last = now
	if len(g.messages) < aggregateAfter {
		g.messages[e.Message] = true
	}
	if len(g.messages) >= aggregateAfter {
		delete(g.messages, e.Message)
		key = groupKey
		combined := *e
		combined.Message = "(combined from similar events): " + e.Message
		e = &combined
	}

	o, known := get[*observation](c.seen, key)
	if known {
		o.event.Count++
		o.event.LastTimestamp = metav1.NewTime(now)
		o.event.Message = e.Message
	} else {
		copied := *e
		o = &observation{event: &copied}
		c.seen.Add(key, o)
	}
	if !c.allow(about, now) {
		return nil
	}
	return o
}

func (c *correlator) allow(about string, now time.Time) bool {
	b, ok := get[*bucket](c.spam, about)
	if !ok {
		b = &bucket{tokens: spamBurst, last: now}
		c.spam.Add(about, b)
	}
	b.tokens = min(spamBurst, b.tokens+now.Sub(b.last).Seconds()/spamRefill.Seconds())
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func get[T any](c *lru.Cache, key string) (T, bool) {
	v, ok := c.Get(key)
	if !ok {
		var none T
		return none, false
	}
	return v.(T), true
}
