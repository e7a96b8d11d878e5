package apiserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/object"
)

func withSeconds(ctx context.Context, n int64) (context.Context, context.CancelFunc) {
	if n <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Duration(n)*time.Second)
}

func (q *request) list(t resource.Target) error {
	a, err := q.shaped(t)
	if err != nil {
		return err
	}
	o, err := q.listQuery(t.Definition, false)
	if err != nil {
		return err
	}
	t.Name = ""
	ctx := q.r.Context()
	if o.timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = withSeconds(ctx, *o.timeout)
		defer cancel()
	}
	read := q.reading("cacher.GetList", t)
	l, err := q.s.engine.List(ctx, t, o.ListOptions)
	read.Event("Filtered items", attribute.Int("count", len(l.Items)))
	read.End()
	if err != nil {
		return err
	}
	return q.sendList(a, t, l)
}

func listMeta(l resource.List) metav1.ListMeta {
	m := metav1.ListMeta{Continue: l.Continue, RemainingItemCount: l.Remaining}
	if l.Revision > 0 { // what is not stored has none
		m.ResourceVersion = l.Revision.String()
	}
	return m
}

// sendList joins a list from the items' stored or cached bytes.
func (q *request) sendList(a accepted, t resource.Target, l resource.List) error {
	v := t.WireVersion()
	switch {
	case a.as == asTable:
		return q.sendTable(a, http.StatusOK, t, l)
	case a.as == asMetadata:
		if a.format == object.Protobuf {
			q.auditList(t, l)
		}
		return q.sendPartials(a, l)
	case a.format == object.Protobuf:
		q.auditList(t, l)
		size, write, err := protobufList(v, l)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		q.stream(a, http.StatusOK, size, write)
		return nil
	}
	return q.sendItems(a, http.StatusOK, jsonListHead(v.ListKind, v.GroupVersion().String(), l), l.Items, func(it resource.Item) ([]byte, error) { return it.JSON(v) })
}

// sendItems joins a list in JSON from b, how it begins, and its items. A long one
// goes out while it is made: many who ask for it, or take it slowly, must not keep
// as many copies.
func (q *request) sendItems(a accepted, code int, b []byte, items []resource.Item, render func(resource.Item) ([]byte, error)) error {
	rest := items
	add := func(b []byte) ([]byte, error) {
		if err := resource.ConvertNext(items, len(items)-len(rest)); err != nil {
			return b, err
		}
		p, err := render(rest[0])
		if err != nil {
			return b, err
		}
		if len(rest) < len(items) {
			b = append(b, ',')
		}
		rest[0] = resource.Item{} // what it was decoded to is needed no more
		rest = rest[1:]
		return append(b, p...), nil
	}
	var err error
	for whole := a.format != object.JSON || a.pretty || q.audited.WantsResponse(); len(rest) > 0 && (whole || len(b) <= compressAbove); {
		if b, err = add(b); err != nil {
			return asInternal(err)
		}
	}
	if len(rest) == 0 {
		q.writeJSON(a, code, append(b, "]}\n"...))
		return nil
	}
	q.stream(a, code, -1, func(w io.Writer) {
		for {
			if _, err := w.Write(b); err != nil {
				return
			}
			if len(rest) == 0 {
				_, _ = io.WriteString(w, "]}\n")
				return
			}
			q.ticket.Resume(q.r.Context())
			for b = b[:0]; len(rest) > 0 && len(b) <= chunk; {
				if b, err = add(b); err != nil {
					q.s.log.Error("cannot make an item of a list", "path", q.info.Path, "err", err)
					panic(http.ErrAbortHandler) // it has begun
				}
			}
			q.ticket.Yield() // a slow client takes its time
		}
	})
	return nil
}

// chunk is how much of a long list is made before it is written.
const chunk = 256 << 10

func asInternal(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	return apierrors.NewInternalError(err)
}

func jsonListHead(kind, apiVersion string, l resource.List) []byte {
	b := append(make([]byte, 0, 1024), `{"kind":`...)
	b = strconv.AppendQuote(b, kind)
	b = append(b, `,"apiVersion":`...)
	b = strconv.AppendQuote(b, apiVersion)
	b = append(b, `,"metadata":`...)
	m, err := json.Marshal(listMeta(l))
	if err != nil {
		m = []byte("{}")
	}
	b = append(b, m...)
	return append(b, `,"items":[`...)
}

func jsonList(kind, apiVersion string, l resource.List, parts [][]byte) []byte {
	b := jsonListHead(kind, apiVersion, l)
	for i, p := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, p...)
	}
	return append(b, "]}\n"...)
}

// protobufList joins the list's message: metadata (1), then each item (2). It
// returns the length and what writes it, so that no list is copied as a whole.
func protobufList(v *object.Version, l resource.List) (int, func(io.Writer), error) {
	// Stored values are taken, and expanded, when it is their turn.
	type part struct {
		n           int
		value, tail []byte
	}
	parts := make([]part, len(l.Items))
	meta := listMeta(l)
	m, err := meta.Marshal()
	if err != nil {
		return 0, nil, err
	}
	n := object.FieldLen(len(m))
	for i, it := range l.Items {
		p, ok := &parts[i], false
		if p.n, ok = it.ProtobufLen(v); !ok {
			if p.value, p.tail, err = it.Protobuf(v); err != nil {
				return 0, nil, err
			}
			p.n = len(p.value) + len(p.tail)
		}
		n += object.FieldLen(p.n)
	}
	apiVersion := v.GroupVersion().String()
	return object.EnvelopeLen(apiVersion, v.ListKind, n), func(w io.Writer) {
		out := bufio.NewWriterSize(w, 256<<10)
		head := object.AppendEnvelope(nil, apiVersion, v.ListKind, n)
		_, _ = out.Write(object.AppendBytesField(head, 1, m))
		var buf []byte
		for i, p := range parts {
			value, tail := p.value, p.tail
			if value == nil {
				if value, tail, err = l.Items[i].ProtobufIn(v, &buf); err != nil {
					panic(http.ErrAbortHandler) // it has begun
				}
			}
			_, _ = out.Write(object.AppendFieldHeader(out.AvailableBuffer(), 2, p.n))
			_, _ = out.Write(value)
			if _, err := out.Write(tail); err != nil {
				return
			}
		}
		_ = out.Flush()
	}, nil
}

// partial is one object reduced to its metadata.
func partial(it resource.Item, a accepted) ([]byte, error) {
	if a.format == object.Protobuf {
		msg, err := partialMessage(it)
		if err != nil {
			return nil, err
		}
		apiVersion := metav1.GroupName + "/" + a.version
		b := object.AppendEnvelope(make([]byte, 0, len(msg)+80), apiVersion, "PartialObjectMetadata", len(msg))
		return append(b, msg...), nil
	}
	return partialJSON(it, a.version)
}

func partialJSON(it resource.Item, version string) ([]byte, error) {
	m, err := it.Meta()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	b, err := json.Marshal(metadataOf(m))
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out := make([]byte, 0, len(b)+96)
	out = append(out, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/`...)
	out = append(out, version...)
	out = append(out, `","metadata":`...)
	out = append(out, b...)
	return append(out, '}'), nil
}

// partialMessage is the PartialObjectMetadata message: its only field is the
// object's own field 1.
func partialMessage(it resource.Item) ([]byte, error) {
	if raw, ok := it.StoredMeta(); ok {
		b := object.AppendBytesField(make([]byte, 0, len(raw)+32), 1, raw)
		return object.AppendRevision(b, it.Revision()), nil
	}
	m, err := it.Meta()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	raw, err := metadataOf(m).Marshal()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return object.AppendBytesField(nil, 1, raw), nil
}

// metadataOf copies metadata out of an object of any kind.
func metadataOf(m metav1.Object) *metav1.ObjectMeta {
	if own, ok := m.(*metav1.ObjectMeta); ok {
		return own
	}
	if has, ok := m.(metav1.ObjectMetaAccessor); ok {
		if own, ok := has.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return own
		}
	}
	return &metav1.ObjectMeta{
		Name: m.GetName(), GenerateName: m.GetGenerateName(), Namespace: m.GetNamespace(), UID: m.GetUID(),
		ResourceVersion: m.GetResourceVersion(), Generation: m.GetGeneration(), CreationTimestamp: m.GetCreationTimestamp(),
		DeletionTimestamp: m.GetDeletionTimestamp(), DeletionGracePeriodSeconds: m.GetDeletionGracePeriodSeconds(),
		Labels: m.GetLabels(), Annotations: m.GetAnnotations(), OwnerReferences: m.GetOwnerReferences(),
		Finalizers: m.GetFinalizers(), ManagedFields: m.GetManagedFields(),
	}
}

func (q *request) sendPartials(a accepted, l resource.List) error {
	if a.format != object.Protobuf {
		return q.sendItems(a, http.StatusOK, jsonListHead("PartialObjectMetadataList", metav1.GroupName+"/"+a.version, l), l.Items, func(it resource.Item) ([]byte, error) { return partialJSON(it, a.version) })
	}
	meta := listMeta(l)
	m, err := meta.Marshal()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	msg := object.AppendBytesField(nil, 1, m)
	for i := range l.Items {
		if err := resource.ConvertNext(l.Items, i); err != nil {
			return apierrors.NewInternalError(err)
		}
		p, err := partialMessage(l.Items[i])
		l.Items[i] = resource.Item{}
		if err != nil {
			return err
		}
		msg = object.AppendBytesField(msg, 2, p)
	}
	b := object.AppendEnvelope(make([]byte, 0, len(msg)+80), metav1.GroupName+"/"+a.version, "PartialObjectMetadataList", len(msg))
	q.write(a, http.StatusOK, append(b, msg...))
	return nil
}
