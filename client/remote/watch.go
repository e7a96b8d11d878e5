package remote

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
)

// maxFrame bounds one event; objects are far smaller.
const maxFrame = 64 << 20

// watch reads a stream of events in a goroutine of its own, no further ahead
// than queued, so that a slow reader holds the server back instead of memory.
type watch struct {
	d      *object.Definition
	format object.Format
	cancel context.CancelFunc
	done   chan struct{} // the reader has ended
	once   sync.Once
	closed chan struct{}

	mu     sync.Mutex
	queue  []client.Event
	err    error
	filled chan struct{} // holds a token while there is something to take
	taken  chan struct{} // holds a token after the queue was emptied
}

const queued = 4096

// Watch implements client.Client.
func (c *Client) Watch(ctx context.Context, d *object.Definition, namespace string, o client.WatchOptions) (client.Watch, error) {
	q := selectors(o.LabelSelector, o.FieldSelector)
	q.Set("watch", "true")
	q.Set("allowWatchBookmarks", "true")
	if o.From > 0 {
		q.Set("resourceVersion", o.From.String())
	} else {
		q.Set("sendInitialEvents", "false")
		q.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan))
	}
	accept := mediaJSON
	if !c.codec(d).Custom() {
		accept = mediaProtobuf + ";stream=watch," + mediaJSON
	}
	// The stream outlives the call, but not a call that gives up while it opens.
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	resp, err := c.send(open, http.MethodGet, c.path(d, namespace, "", "", q), accept, "", nil)
	if err == nil && !stop() {
		resp.Body.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	w := &watch{
		d: d, format: formatOf(resp), cancel: cancel, done: make(chan struct{}), closed: make(chan struct{}),
		filled: make(chan struct{}, 1), taken: make(chan struct{}, 1),
	}
	go w.read(resp.Body)
	return w, nil
}

// read fills the queue until the stream ends.
func (w *watch) read(body io.ReadCloser) {
	defer close(w.done)
	defer body.Close()
	r := bufio.NewReaderSize(body, 32<<10)
	for {
		ev, err := w.next(r)
		if err == nil {
			err = w.put(ev)
		}
		if err != nil {
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			signal(w.filled)
			return
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *watch) put(ev client.Event) error {
	for {
		w.mu.Lock()
		if len(w.queue) < queued {
			w.queue = append(w.queue, ev)
			w.mu.Unlock()
			signal(w.filled)
			return nil
		}
		w.mu.Unlock()
		select {
		case <-w.taken:
		case <-w.closed:
			return client.ErrClosed
		}
	}
}

// next reads one event from the stream.
func (w *watch) next(r *bufio.Reader) (client.Event, error) {
	if w.format == object.Protobuf {
		return w.nextFrame(r)
	}
	line, err := r.ReadBytes('\n')
	if err != nil {
		return client.Event{}, fmt.Errorf("watch ended: %w", err)
	}
	var ev struct {
		Type   client.EventType `json:"type"`
		Object json.RawMessage  `json:"object"`
	}
	if err := json.Unmarshal(line, &ev); err != nil {
		return client.Event{}, fmt.Errorf("cannot read a watch event: %w", err)
	}
	return w.event(ev.Type, ev.Object, object.JSON)
}

func (w *watch) nextFrame(r *bufio.Reader) (client.Event, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return client.Event{}, fmt.Errorf("watch ended: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return client.Event{}, fmt.Errorf("cannot read a watch event of %d bytes", n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return client.Event{}, fmt.Errorf("watch ended: %w", err)
	}
	var ev metav1.WatchEvent
	if err := ev.Unmarshal(frame); err != nil {
		return client.Event{}, fmt.Errorf("cannot read a watch event: %w", err)
	}
	return w.event(client.EventType(ev.Type), ev.Object.Raw, object.Protobuf)
}

func (w *watch) event(t client.EventType, raw []byte, f object.Format) (client.Event, error) {
	switch t {
	case client.Added, client.Modified, client.Deleted, client.Bookmark:
	case "ERROR":
		s := &metav1.Status{}
		if _, err := object.DecodeInto(s, raw, f, false); err != nil {
			return client.Event{}, fmt.Errorf("cannot read a watch's error: %w", err)
		}
		return client.Event{}, &apierrors.StatusError{ErrStatus: *s}
	default:
		return client.Event{}, fmt.Errorf("watch event has type %q", t)
	}
	o := w.d.New()
	if _, err := object.DecodeInto(o, raw, f, false); err != nil {
		return client.Event{}, fmt.Errorf("cannot read a watch event: %w", err)
	}
	ev := client.Event{Type: t, Revision: object.RevisionOf(o)}
	if t != client.Bookmark {
		ev.Object = o
	}
	return ev, nil
}

// Next implements client.Watch.
func (w *watch) Next(ctx context.Context) ([]client.Event, error) {
	for {
		w.mu.Lock()
		events, err := w.queue, w.err
		w.queue = nil
		w.mu.Unlock()
		if len(events) > 0 {
			signal(w.taken)
			return events, nil
		}
		if err != nil {
			select {
			case <-w.closed:
				return nil, client.ErrClosed
			default:
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, fmt.Errorf("watch of %s ended: %w", w.d.Resource, err)
			}
			return nil, err
		}
		select {
		case <-w.filled:
		case <-w.closed:
			return nil, client.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close implements client.Watch.
func (w *watch) Close() {
	w.once.Do(func() {
		close(w.closed)
		w.cancel()
		<-w.done
	})
}
