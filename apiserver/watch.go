package apiserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

// initialEventsEnd marks the bookmark after the initial events of a watch.
const initialEventsEnd = "k8s.io/initial-events-end"

// watch streams changes until the client goes, its time is up, or the server
// drains.
func (q *request) watch(t resource.Target) error {
	// Upstream looks for a form of lists first, then for that of the stream.
	if _, err := q.shaped(t); err != nil {
		return err
	}
	a, err := negotiate(q.r, !t.Custom(), true, true)
	if err != nil {
		return err
	}
	o, err := q.listQuery(t.WireVersion(), true)
	if err != nil {
		return err
	}
	if name, ok := o.Selector.Exact("metadata.name"); ok && q.info.Name != "" && name != q.info.Name {
		return apierrors.NewBadRequest("the name of the object does not match the field selector")
	}
	if q.info.Watch && t.Name != "" {
		// The old /watch/.../NAME form.
		sel, err := object.ParseSelector(t.Definition, "", "metadata.name="+t.Name)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		o.Selector = sel
	}
	t.Name = ""
	ctx := q.r.Context()

	// What there is comes first, unless the client has it already.
	wantsInitial := o.Revision == 0
	if o.initial != nil {
		wantsInitial = *o.initial
	}
	var initial *resource.Pages
	from := o.Revision
	if wantsInitial {
		switch initial, err = q.s.engine.Pages(ctx, t, o.Selector, o.Revision); {
		case err == nil:
			from = initial.Revision
		case o.Revision == 0 || !apierrors.IsTimeout(err):
			return err
		}
	}
	var w *resource.Watch
	if err == nil {
		w, err = q.s.engine.Watch(ctx, t, resource.WatchOptions{Selector: o.Selector, From: from})
		if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			return err
		}
	}
	if w != nil {
		defer w.Close()
	}
	seconds := int64(1800 + rand.IntN(1800))
	if o.timeout != nil && *o.timeout > 0 {
		seconds = *o.timeout
	}
	ctx, cancel := withSeconds(ctx, seconds)
	defer cancel()

	q.w.Header().Set("Content-Type", a.contentType(true))
	q.w.WriteHeader(http.StatusOK)
	if m := q.s.Metrics; m != nil {
		m.Watching(&q.info, q.r, 1)
		defer m.Watching(&q.info, q.r, -1)
	}
	out := &watchWriter{a: a, v: t.WireVersion(), q: q, conn: http.NewResponseController(q.w)}
	out.w = bufio.NewWriterSize(out, 16<<10)
	defer q.s.stalls.watch(&out.stall, func() { _ = out.conn.SetWriteDeadline(time.Unix(1, 0)) })()
	if err != nil {
		// Upstream reports inside the stream that a revision is expired, or to come.
		if out.failure(err) == nil {
			out.done()
		}
		return nil
	}
	if wantsInitial {
		started := q.spanOfInitial()
		defer started.End()
		for {
			items, err := initial.Next(q.r.Context())
			if err != nil {
				if q.r.Context().Err() == nil && out.failure(err) == nil {
					_ = out.done()
				}
				return nil
			}
			if items == nil {
				break
			}
			for _, it := range items {
				if out.event(client.Added, it) != nil {
					return nil
				}
			}
		}
		initial = nil
		started.End()
		if o.initial != nil && o.bookmarks {
			if out.bookmark(from, true) != nil {
				return nil
			}
		}
	}
	if out.done() != nil {
		return nil
	}
	q.ticket.Leave() // what follows is waiting
	q.follow(ctx, w, out, o.bookmarks, from)
	return nil
}

// follow copies events to the client. Each batch is flushed once.
func (q *request) follow(ctx context.Context, w *resource.Watch, out *watchWriter, bookmarks bool, told object.Revision) {
	beat, stop := ctx, func() {}
	var wake atomic.Pointer[context.CancelFunc]
	if bookmarks {
		defer q.s.rounds.join(func() {
			if cancel := wake.Load(); cancel != nil {
				(*cancel)()
			}
		})()
	}
	for {
		if bookmarks {
			var cancel context.CancelFunc
			beat, cancel = context.WithCancel(ctx)
			stop = cancel
			wake.Store(&cancel)
		}
		var err error
		for err == nil {
			var events []resource.Event
			if events, err = w.Next(beat); err != nil {
				break
			}
			for i := range events {
				if out.event(events[i].Type, events[i].Item) != nil {
					stop()
					return
				}
			}
			if out.done() != nil {
				stop()
				return
			}
		}
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, context.Canceled):
			if r := w.Revision(); r > told {
				told = r
				if out.bookmark(r, false) != nil || out.done() != nil {
					return
				}
			}
		default:
			if !errors.Is(err, client.ErrClosed) && out.failure(err) == nil {
				out.done()
			}
			return
		}
	}
}

// watchWriter frames events: a line of JSON each, or a length and a message.
type watchWriter struct {
	a       accepted
	v       *object.Version
	q       *request
	w       *bufio.Writer // on the watchWriter itself
	conn    *http.ResponseController
	stall   stall
	scratch []byte
	value   []byte // of the item being written
	header  bool   // a table with column definitions was sent
}

// Write passes on what was framed. While a slow client takes it, others have the
// turn.
func (o *watchWriter) Write(b []byte) (int, error) {
	if o.q.ticket.Yield(); o.stall.begin() {
		defer o.stall.end()
	}
	n, err := o.q.w.Write(b)
	o.q.ticket.Resume(o.q.r.Context())
	return n, err
}

func (o *watchWriter) done() error {
	o.stall.begin()
	defer o.stall.end()
	if err := o.w.Flush(); err != nil {
		return err
	}
	return o.conn.Flush()
}

// event writes one event, joined from the item's bytes.
func (o *watchWriter) event(kind client.EventType, it resource.Item) error {
	if o.a.format == object.Protobuf {
		var value, tail []byte
		var err error
		gvk := o.v.GroupVersionKind
		if o.a.as == asMetadata {
			gvk.Group, gvk.Version, gvk.Kind = metav1.GroupName, o.a.version, "PartialObjectMetadata"
			value, err = partialMessage(it)
		} else {
			value, tail, err = it.ProtobufIn(o.v, &o.value)
		}
		if err != nil {
			return err
		}
		o.scratch = appendFrameHead(o.scratch[:0], string(kind), gvk.GroupVersion().String(), gvk.Kind, len(value)+len(tail))
		return o.pieces(o.scratch, value, tail)
	}
	if o.a.format == object.CBOR {
		b := appendCBOREvent(o.scratch[:0], string(kind))
		var value []byte
		var err error
		if o.a.as == asMetadata {
			var p *metav1.PartialObjectMetadata
			if p, err = partialObject(it, o.a.version, true); err == nil {
				b, err = object.AppendCBOR(b, p)
			}
		} else {
			value, err = it.Once(o.v, object.CBOR, func() ([]byte, error) { return it.AppendCBOR(nil, o.v, true) })
		}
		if err != nil {
			return err
		}
		o.scratch = b
		return o.pieces(b, value)
	}
	b := append(o.scratch[:0], `{"type":"`...)
	b = append(b, kind...)
	b = append(b, `","object":`...)
	switch o.a.as {
	case asTable:
		tab, err := table(o.a, o.v, resource.List{Items: []resource.Item{it}, Revision: it.Revision()}, time.Now(), !o.header)
		if err != nil {
			return err
		}
		o.header = true
		j, err := json.Marshal(tab)
		if err != nil {
			return err
		}
		return o.pieces(b, j, endOfEvent)
	case asMetadata:
		p, err := partialJSON(it, o.a.version)
		if err != nil {
			return err
		}
		return o.pieces(b, p, endOfEvent)
	}
	bare, err := o.json(it)
	if err != nil {
		return err
	}
	b, bare = o.v.SplitJSON(b, bare)
	o.scratch = b
	return o.pieces(b, bare, endOfEvent)
}

// json is the item's JSON, made once for all watchers.
func (o *watchWriter) json(it resource.Item) ([]byte, error) {
	if it.Keeps(o.v) {
		return it.JSON(o.v)
	}
	return it.Once(o.v, object.JSON, func() ([]byte, error) { return it.JSON(o.v) })
}

var endOfEvent = []byte("}\n")

func (o *watchWriter) pieces(all ...[]byte) error {
	for _, p := range all {
		if _, err := o.w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// appendFrameHead begins a length-delimited WatchEvent around an enveloped
// message of n bytes, which must follow.
func appendFrameHead(b []byte, kind, apiVersion, name string, n int) []byte {
	inner := object.EnvelopeLen(apiVersion, name, n) // RawExtension.raw
	ext := object.FieldLen(inner)                    // WatchEvent.object
	event := object.FieldLen(len(kind)) + object.FieldLen(ext)
	// Upstream wraps the event itself in no envelope.
	b = binary.BigEndian.AppendUint32(b, uint32(event))
	b = object.AppendBytesField(b, 1, kind)
	b = object.AppendFieldHeader(b, 2, ext)
	b = object.AppendFieldHeader(b, 1, inner)
	return object.AppendEnvelope(b, apiVersion, name, n)
}

// appendCBOREvent begins a WatchEvent in CBOR, whose object must follow.
func appendCBOREvent(b []byte, kind string) []byte {
	b = object.AppendCBORMap(append(b, object.SelfDescribed...), 2)
	b = object.AppendCBORString(object.AppendCBORString(b, "type"), kind)
	return object.AppendCBORString(b, "object")
}

func (o *watchWriter) frame(kind, apiVersion, name string, msg []byte) error {
	return o.pieces(appendFrameHead(nil, kind, apiVersion, name, len(msg)), msg)
}

// bookmark tells the client how far it has got.
func (o *watchWriter) bookmark(r object.Revision, end bool) error {
	meta := metav1.ObjectMeta{ResourceVersion: r.String()}
	if end {
		meta.Annotations = map[string]string{initialEventsEnd: "true"}
	}
	gvk := o.v.GroupVersionKind
	if o.a.as == asMetadata {
		gvk.Group, gvk.Version, gvk.Kind = metav1.GroupName, o.a.version, "PartialObjectMetadata"
	}
	if o.a.format == object.Protobuf {
		raw, err := meta.Marshal()
		if err != nil {
			return err
		}
		return o.frame(string(client.Bookmark), gvk.GroupVersion().String(), gvk.Kind, object.AppendBytesField(nil, 1, raw))
	}
	if o.a.format == object.CBOR {
		b, err := object.AppendCBOR(appendCBOREvent(nil, string(client.Bookmark)), &metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{Kind: gvk.Kind, APIVersion: gvk.GroupVersion().String()}, ObjectMeta: meta,
		})
		if err != nil {
			return err
		}
		return o.pieces(b)
	}
	var obj any = struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
	}{metav1.TypeMeta{Kind: gvk.Kind, APIVersion: gvk.GroupVersion().String()}, meta}
	if o.a.as == asTable {
		row, err := json.Marshal(struct {
			metav1.TypeMeta `json:",inline"`
			Metadata        metav1.ObjectMeta `json:"metadata"`
		}{metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.GroupName + "/" + o.a.version}, meta})
		if err != nil {
			return err
		}
		tab, err := table(o.a, o.v, resource.List{Revision: r}, time.Now(), !o.header)
		if err != nil {
			return err
		}
		if end {
			// The annotation has no other place in a table.
			tab.Rows = append(tab.Rows, metav1.TableRow{Cells: make([]any, len(o.v.Columns))})
			tab.Rows[0].Object.Raw = row
		}
		o.header = true
		obj = tab
	}
	return o.line(client.Bookmark, obj)
}

// failure ends the stream with an ERROR event.
func (o *watchWriter) failure(err error) error {
	s := statusOf(err)
	if o.a.format == object.CBOR {
		b, err := object.AppendCBOR(appendCBOREvent(nil, "ERROR"), &s)
		if err != nil {
			return err
		}
		return o.pieces(b)
	}
	if o.a.format == object.Protobuf {
		raw, err := s.Marshal()
		if err != nil {
			return err
		}
		return o.frame("ERROR", "v1", "Status", raw)
	}
	return o.line("ERROR", &s)
}

func (o *watchWriter) line(kind client.EventType, obj any) error {
	b, err := json.Marshal(struct {
		Type   client.EventType `json:"type"`
		Object any              `json:"object"`
	}{kind, obj})
	if err != nil {
		return err
	}
	_, err = o.w.Write(append(b, '\n'))
	return err
}
