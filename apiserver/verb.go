package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	autoscalingv1 "k8s.io/api/autoscaling/v1"

	"sagong/apiserver/resource"
	"sagong/object"
)

// shaped negotiates for requests whose answers are objects of the kind.
func (q *request) shaped(t resource.Target) (accepted, error) {
	return negotiate(q.r, !t.Custom(), false, true)
}

func (q *request) get(t resource.Target) error {
	a, err := q.shaped(t)
	if err != nil {
		return err
	}
	v := q.r.URL.Query()
	if truth(v, "export") {
		return apierrors.NewBadRequest("the export parameter, deprecated since v1.14, is no longer supported")
	}
	rv := v.Get("resourceVersion")
	rev, err := resource.ParseRevision(rv)
	if err != nil {
		return badRevision(rv, err, true)
	}
	main := t
	main.Subresource = ""
	read := q.reading("Get etcd3", t)
	it, err := q.s.engine.Get(q.r.Context(), main, rev)
	read.End()
	if err != nil {
		return err
	}
	return q.item(a, http.StatusOK, t, it)
}

func (q *request) create(t resource.Target) error {
	a, err := q.shaped(t)
	if err != nil {
		return err
	}
	o, directive, err := q.createOptions()
	if err != nil {
		return err
	}
	obj, err := q.decodeObject(t, directive)
	if err != nil {
		return err
	}
	it, err := q.s.engine.Create(q.r.Context(), q.caller(), t, obj, o)
	if err != nil {
		return err
	}
	return q.item(a, http.StatusCreated, t, it)
}

func (q *request) update(t resource.Target) error {
	a, err := q.shaped(t)
	if err != nil {
		return err
	}
	o, directive, err := q.updateOptions()
	if err != nil {
		return err
	}
	obj, err := q.decodeObject(t, directive)
	if err != nil {
		return err
	}
	it, created, err := q.s.engine.Update(q.r.Context(), q.caller(), t, obj, o)
	if err != nil {
		return err
	}
	return q.item(a, createdOr(created), t, it)
}

func createdOr(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (q *request) readPatch(t resource.Target) (resource.Patch, *metav1.PatchOptions, error) {
	var p resource.Patch
	media := q.r.Header.Get("Content-Type")
	for i, c := range media {
		if c == ';' {
			media = media[:i]
			break
		}
	}
	p.Type = types.PatchType(media)
	accepts := mediaPatches
	if t.Custom() {
		accepts = []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType), string(types.ApplyCBORPatchType)}
	}
	known := false
	for _, a := range accepts {
		known = known || a == media
	}
	if !known {
		return p, nil, unsupportedMedia(accepts)
	}
	v := q.r.URL.Query()
	o := &metav1.PatchOptions{DryRun: v["dryRun"], FieldManager: v.Get("fieldManager"), FieldValidation: v.Get("fieldValidation"), Force: boolean(v, "force")}
	if err := badOptions("PatchOptions", validation.ValidatePatchOptions(o, p.Type)); err != nil {
		return p, nil, err
	}
	p.Validation = validationDirective(v)
	var err error
	if p.Data, err = q.readBody(); err != nil {
		return p, o, err
	}
	switch p.Type {
	case types.ApplyYAMLPatchType:
	case types.ApplyCBORPatchType: // says the same in other bytes
		if p.Data, err = object.CBORToJSON(p.Data); err != nil {
			return p, o, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
		p.Type = types.ApplyYAMLPatchType
	default:
		if !json.Valid(p.Data) {
			return p, o, apierrors.NewBadRequest("invalid JSON patch")
		}
	}
	q.audited.Patch(p.Data)
	return p, o, nil
}

func (q *request) patch(t resource.Target) error {
	a, err := q.shaped(t)
	if err != nil {
		return err
	}
	p, o, err := q.readPatch(t)
	if err != nil {
		return err
	}
	it, created, err := q.s.engine.Patch(q.r.Context(), q.caller(), t, p, o)
	if err != nil {
		return err
	}
	return q.item(a, createdOr(created), t, it)
}

// patchOther patches a subresource with a state of its own: scale.
func (q *request) patchOther(t resource.Target, h resource.Handler) error {
	a, err := q.shapedOther(t)
	if err != nil {
		return err
	}
	p, o, err := q.readPatch(t)
	if err != nil {
		return err
	}
	ctx := q.r.Context()
	if p.Type == types.ApplyYAMLPatchType && t.Subresource == "scale" {
		out, err := q.s.engine.ApplyScale(ctx, q.caller(), t, p, o)
		if err != nil {
			return err
		}
		return q.shapeOther(a, t, out)
	}
	const tries = 5
	present := h.Get
	if h.Present != nil {
		present = h.Present
	}
	for try := 0; ; try++ {
		now, err := present(ctx, q.caller(), t)
		if err != nil {
			return err
		}
		now = named(now)
		next, faults, err := resource.PatchOther(now, h.New(), p, schemeOf(t))
		if err != nil {
			return err
		}
		if try == 0 {
			for _, f := range faults {
				q.caller().Warn(f.Error())
			}
		}
		out, err := h.Update(ctx, q.caller(), t, next, &metav1.UpdateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation})
		if apierrors.IsConflict(err) && try < tries && sameRevision(now, next) {
			continue
		}
		if err != nil {
			return err
		}
		return q.shapeOther(a, t, out)
	}
}

// schemeOf is where upstream made the scheme that knows a kind, which its texts name.
func schemeOf(t resource.Target) string {
	if t.Custom() {
		return "pkg/runtime/scheme.go:111"
	}
	return "pkg/api/legacyscheme/scheme.go:30"
}

func sameRevision(a, b runtime.Object) bool {
	x, ok := a.(*autoscalingv1.Scale)
	y, ok2 := b.(*autoscalingv1.Scale)
	return ok && ok2 && x.ResourceVersion == y.ResourceVersion
}

func (q *request) delete(t resource.Target) error {
	a, err := q.shaped(t)
	if err != nil {
		return err
	}
	o, err := q.deleteOptions()
	if err != nil {
		return err
	}
	it, gone, err := q.s.engine.Delete(q.r.Context(), q.caller(), t, o)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if !gone && o.OrphanDependents != nil && !*o.OrphanDependents {
		code = http.StatusAccepted // upstream says so of no other way to ask
	}
	if gone && !t.Definition.DeleteReturnsObject() {
		m, err := it.Meta()
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		a.as = asObject
		q.other(a, http.StatusOK, &metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
			Details: &metav1.StatusDetails{Name: t.Name, Group: t.Group, Kind: t.Resource, UID: m.GetUID()},
		})
		return nil
	}
	return q.item(a, code, t, it)
}

func (q *request) deleteCollection(t resource.Target) error {
	a, err := q.shaped(t)
	if err != nil {
		return err
	}
	lq, err := q.listQuery(t.WireVersion(), false)
	if err != nil {
		return err
	}
	o, err := q.deleteOptions()
	if err != nil {
		return err
	}
	t.Name = ""
	ctx := q.r.Context()
	if lq.timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = withSeconds(ctx, *lq.timeout)
		defer cancel()
	}
	l, err := q.s.engine.DeleteCollection(ctx, q.caller(), t, o, lq.ListOptions)
	if err != nil {
		return err
	}
	return q.sendList(a, t, l)
}

// item sends one object.
func (q *request) item(a accepted, code int, t resource.Target, it resource.Item) error {
	v := t.WireVersion()
	switch a.as {
	case asTable:
		return q.sendTable(a, code, t, resource.List{Items: []resource.Item{it}, Revision: it.Revision()})
	case asMetadata:
		if a.list && t.Custom() {
			return errors.New("content is not a list") // as upstream's converter of maps has it
		}
		if a.list {
			return notAcceptableShape("you requested PartialObjectMetadataList, but the requested object is not a list (%s)", t, "")
		}
		b, err := partial(it, a)
		if err != nil {
			return err
		}
		if a.text() {
			q.writeJSON(a, code, append(b, '\n'))
		} else {
			q.auditItem(t, it)
			q.write(a, code, b)
		}
		return nil
	}
	switch a.format {
	case object.CBOR:
		q.auditItem(t, it)
		b, err := it.AppendCBOR(nil, v, true)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		q.write(a, code, b)
		return nil
	case object.Protobuf:
		q.auditItem(t, it)
		value, tail, err := it.Protobuf(v)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		apiVersion, n := v.GroupVersion().String(), len(value)+len(tail)
		head := object.AppendEnvelope(make([]byte, 0, 64), apiVersion, v.Kind, n)
		q.stream(a, code, len(head)+n, func(w io.Writer) {
			for _, part := range [...][]byte{head, value, tail} {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		})
		return nil
	}
	bare, err := it.JSON(v)
	switch {
	case err != nil && t.Custom():
		return apierrors.NewInternalError(err)
	case err != nil:
		return apierrors.NewInternalError(fmt.Errorf("cannot encode %s %s: %w", t.Kind.Definition.Kind, t.Name, err))
	}
	b := v.WholeJSON(make([]byte, 0, len(bare)+64), bare)
	q.writeJSON(a, code, append(b, '\n'))
	return nil
}
