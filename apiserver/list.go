package apiserver

import (
	"bufio"
	"bytes"
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
	"sigs.k8s.io/yaml"

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
	o, err := q.listQuery(t.WireVersion(), false)
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

// metaOf is the metadata of a list of whole objects. Upstream's lists of custom
// resources are maps, which always say continue.
func metaOf(t resource.Target, l resource.List) any {
	if !t.Custom() {
		return listMeta(l)
	}
	return struct {
		metav1.ListMeta
		Continue string `json:"continue"`
	}{listMeta(l), l.Continue}
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
	if a.as == asTable {
		return q.sendTable(a, http.StatusOK, t, l)
	}
	if !a.text() {
		q.auditList(t, l)
	}
	switch {
	case a.as == asMetadata && !a.list:
		return notAcceptableShape("you requested PartialObjectMetadata, but the requested object is a list (%s)", t, "List")
	case a.as == asMetadata:
		return q.sendPartials(a, l)
	case a.format == object.Protobuf:
		size, write, err := protobufList(v, l)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		q.stream(a, http.StatusOK, size, write)
		return nil
	case a.format == object.CBOR:
		return q.sendCBOR(a, v.ListKind, v.GroupVersion().String(), metaOf(t, l), l.Items, func(dst []byte, it resource.Item) ([]byte, error) { return it.AppendCBOR(dst, v, false) })
	}
	return q.sendItems(a, http.StatusOK, jsonListHead(v.ListKind, v.GroupVersion().String(), metaOf(t, l)), l.Items, func(it resource.Item) ([]byte, error) { return it.JSON(v) })
}

// joined is a list that is made of its items one by one.
type joined struct {
	head, between, tail []byte
	item                func(dst []byte, it resource.Item) ([]byte, error)
}

// sendItems joins a list in JSON, or what is made of that, from b, how it begins,
// and its items.
func (q *request) sendItems(a accepted, code int, b []byte, items []resource.Item, render func(resource.Item) ([]byte, error)) error {
	list := joined{head: b, between: []byte(","), tail: []byte("]}\n"), item: func(dst []byte, it resource.Item) ([]byte, error) {
		p, err := render(it)
		return append(dst, p...), err
	}}
	switch {
	case q.audited.WantsResponse():
		b, err := list.all(items)
		if err != nil {
			return asInternal(err)
		}
		q.writeJSON(a, code, b)
		return nil
	case len(items) == 0:
		q.writeJSON(a, code, append(b, list.tail...))
		return nil
	case a.format == object.YAML:
		if err := list.asYAML(render); err != nil {
			return apierrors.NewInternalError(err)
		}
	case a.pretty:
		list.indented(render)
	}
	return q.join(a, code, list, items)
}

// sendCBOR joins a list in CBOR.
func (q *request) sendCBOR(a accepted, kind, apiVersion string, meta any, items []resource.Item, item func([]byte, resource.Item) ([]byte, error)) error {
	b := object.AppendCBORMap([]byte(object.SelfDescribed), 4)
	for _, s := range [...]string{"kind", kind, "apiVersion", apiVersion, "metadata"} {
		b = object.AppendCBORString(b, s)
	}
	b, err := object.AppendCBORPlain(b, meta)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	b = object.AppendCBORArray(object.AppendCBORString(b, "items"), len(items))
	return q.join(a, http.StatusOK, joined{head: b, item: item}, items)
}

// all is the list as a whole.
func (j *joined) all(items []resource.Item) (b []byte, err error) {
	b = j.head
	for i := range items {
		if b, err = j.add(b, items, i); err != nil {
			return nil, err
		}
	}
	return append(b, j.tail...), nil
}

// add appends item n, which is needed no more then.
func (j *joined) add(b []byte, items []resource.Item, n int) ([]byte, error) {
	if err := resource.ConvertNext(items, n); err != nil {
		return b, err
	}
	if n > 0 {
		b = append(b, j.between...)
	}
	b, err := j.item(b, items[n])
	items[n] = resource.Item{} // with what it was decoded to
	return b, err
}

// indented makes of a list in JSON one for people to read.
func (j *joined) indented(render func(resource.Item) ([]byte, error)) {
	const deep = "    "
	empty := indent(append(j.head, j.tail...))
	j.head = append(bytes.TrimSuffix(empty, []byte("]\n}")), "\n"+deep...)
	j.between, j.tail = []byte(",\n"+deep), []byte("\n  ]\n}")
	j.item = func(dst []byte, it resource.Item) ([]byte, error) {
		p, err := render(it)
		if err != nil {
			return dst, err
		}
		out := bytes.NewBuffer(dst)
		err = json.Indent(out, p, deep, "  ")
		return out.Bytes(), err
	}
}

// asYAML makes of a list in JSON one in YAML, whose keys are in their order.
func (j *joined) asYAML(render func(resource.Item) ([]byte, error)) error {
	empty, err := yaml.JSONToYAML(append(j.head, j.tail...))
	if err != nil {
		return err
	}
	const none = ": []\n" // of items or rows
	at := bytes.LastIndex(empty, []byte(none))
	if at < 0 {
		return errors.New("a list has no place for its items")
	}
	j.tail = bytes.Clone(empty[at+len(none):])
	j.head, j.between = append(empty[:at], ":\n"...), nil
	j.item = func(dst []byte, it resource.Item) ([]byte, error) {
		p, err := render(it)
		if err != nil {
			return dst, err
		}
		if p, err = yaml.JSONToYAML(p); err != nil {
			return dst, err
		}
		before := "- "
		for line := range bytes.Lines(p) {
			if len(line) > 1 {
				dst = append(dst, before...)
			}
			dst, before = append(dst, line...), "  "
		}
		return dst, nil
	}
	return nil
}

// join sends a list. A long one goes out while it is made: many who ask for it, or
// take it slowly, must not keep as many copies.
func (q *request) join(a accepted, code int, list joined, items []resource.Item) error {
	b, n := list.head, 0
	var err error
	for ; n < len(items) && len(b) <= compressAbove; n++ {
		if b, err = list.add(b, items, n); err != nil {
			return asInternal(err)
		}
	}
	if n == len(items) {
		q.write(a, code, append(b, list.tail...))
		return nil
	}
	q.stream(a, code, -1, func(w io.Writer) {
		for {
			if _, err := w.Write(b); err != nil {
				return
			}
			if n == len(items) {
				_, _ = w.Write(list.tail)
				return
			}
			q.ticket.Resume(q.r.Context())
			for b = b[:0]; n < len(items) && len(b) <= chunk; n++ {
				if b, err = list.add(b, items, n); err != nil {
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

func jsonListHead(kind, apiVersion string, meta any) []byte {
	b := append(make([]byte, 0, 1024), `{"kind":`...)
	b = strconv.AppendQuote(b, kind)
	b = append(b, `,"apiVersion":`...)
	b = strconv.AppendQuote(b, apiVersion)
	b = append(b, `,"metadata":`...)
	m, err := json.Marshal(meta)
	if err != nil {
		m = []byte("{}")
	}
	b = append(b, m...)
	return append(b, `,"items":[`...)
}

func jsonList(kind, apiVersion string, meta any, parts [][]byte) []byte {
	b := jsonListHead(kind, apiVersion, meta)
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
	switch a.format {
	case object.CBOR:
		p, err := partialObject(it, a.version, true)
		if err != nil {
			return nil, err
		}
		return object.AppendCBOR(nil, p)
	case object.Protobuf:
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

// partialObject is the PartialObjectMetadata itself: it says its kind when whole.
func partialObject(it resource.Item, version string, whole bool) (*metav1.PartialObjectMetadata, error) {
	m, err := it.Meta()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	p := &metav1.PartialObjectMetadata{ObjectMeta: *metadataOf(m)}
	if whole {
		p.TypeMeta = metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.GroupName + "/" + version}
	}
	return p, nil
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
	const kind = "PartialObjectMetadataList"
	apiVersion := metav1.GroupName + "/" + a.version
	switch a.format {
	case object.CBOR:
		return q.sendCBOR(a, kind, apiVersion, listMeta(l), l.Items, func(dst []byte, it resource.Item) ([]byte, error) {
			p, err := partialObject(it, a.version, true)
			if err != nil {
				return dst, err
			}
			return object.AppendCBORValue(dst, p)
		})
	case object.Protobuf:
		size, write, err := partialsList(apiVersion, kind, l)
		if err != nil {
			return asInternal(err)
		}
		q.stream(a, http.StatusOK, size, write)
		return nil
	}
	return q.sendItems(a, http.StatusOK, jsonListHead(kind, apiVersion, listMeta(l)), l.Items, func(it resource.Item) ([]byte, error) { return partialJSON(it, a.version) })
}

// partialsList is protobufList of metadata. Its length must be known before the
// first byte, so what takes no more than a look into stored bytes is made twice,
// rather than kept.
func partialsList(apiVersion, kind string, l resource.List) (int, func(io.Writer), error) {
	type part struct {
		n   int
		msg []byte // nil: made when it is its turn
	}
	parts := make([]part, len(l.Items))
	meta := listMeta(l)
	m, err := meta.Marshal()
	if err != nil {
		return 0, nil, err
	}
	n := object.FieldLen(len(m))
	var scratch []byte
	for i, it := range l.Items {
		if err := resource.ConvertNext(l.Items, i); err != nil {
			return 0, nil, err
		}
		it = l.Items[i]
		if raw, ok := it.StoredMetaIn(&scratch); ok {
			parts[i].n = object.FieldLen(len(raw)) + object.RevisionFieldLen(it.Revision())
		} else {
			if parts[i].msg, err = partialMessage(it); err != nil {
				return 0, nil, err
			}
			parts[i].n, l.Items[i] = len(parts[i].msg), resource.Item{}
		}
		n += object.FieldLen(parts[i].n)
	}
	return object.EnvelopeLen(apiVersion, kind, n), func(w io.Writer) {
		out := bufio.NewWriterSize(w, 64<<10)
		head := object.AppendEnvelope(nil, apiVersion, kind, n)
		_, _ = out.Write(object.AppendBytesField(head, 1, m))
		for i, p := range parts {
			_, _ = out.Write(object.AppendFieldHeader(out.AvailableBuffer(), 2, p.n))
			if p.msg == nil {
				raw, _ := l.Items[i].StoredMetaIn(&scratch)
				_, _ = out.Write(object.AppendFieldHeader(out.AvailableBuffer(), 1, len(raw)))
				_, _ = out.Write(raw)
				p.msg = object.AppendRevision(out.AvailableBuffer(), l.Items[i].Revision())
			}
			if _, err := out.Write(p.msg); err != nil {
				return
			}
		}
		_ = out.Flush()
	}, nil
}
