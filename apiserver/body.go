package apiserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/client-go/kubernetes/scheme"

	"sagong/apiserver/resource"
	"sagong/object"
)

// maxBody bounds request bodies, as upstream does.
const maxBody = 3 << 20

// readBody reads a body whole.
func (q *request) readBody() ([]byte, error) {
	if q.r.ContentLength > maxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	if end, ok := q.r.Context().Deadline(); ok {
		// A body that trickles in must not outlive the request. Where deadlines are
		// not supported, the connection's own limits remain.
		_ = http.NewResponseController(q.w).SetReadDeadline(end)
	}
	if n := q.r.ContentLength; n > 0 {
		b := make([]byte, n)
		if _, err := io.ReadFull(q.r.Body, b); err != nil {
			return nil, q.bodyError(err)
		}
		return b, nil
	}
	b, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	if err != nil {
		return nil, q.bodyError(err)
	}
	return b, nil
}

func (q *request) bodyError(err error) error {
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	if q.r.Context().Err() != nil {
		return q.r.Context().Err()
	}
	return apierrors.NewBadRequest(fmt.Sprintf("cannot read the request body: %v", err))
}

// decode reads the body into an empty object and judges what it says it is.
// want is empty for bodies of built-in kinds.
func (q *request) decode(t resource.Target, into runtime.Object, want schema.GroupVersionKind, validation string) (runtime.Object, error) {
	if want.Empty() {
		want, _ = kindOfBuiltin(into)
	}
	d, err := q.decodeLeniently(t, into, want, validation)
	if err != nil {
		return nil, err
	}
	return d.Object, q.strict(d.Strict, d.GVK, want, validation)
}

// decodeLeniently leaves it to the caller to judge what is unknown or double.
func (q *request) decodeLeniently(t resource.Target, into runtime.Object, want schema.GroupVersionKind, validation string) (*object.Decoded, error) {
	f, err := bodyFormat(q.r)
	if err != nil {
		return nil, err
	}
	data, err := q.readBody()
	if err != nil {
		return nil, err
	}
	d, err := object.DecodeInto(into, data, f, validation != metav1.FieldValidationIgnore)
	if err != nil {
		gvk, unreadable := object.KindOf(data, f)
		if unreadable != nil {
			return nil, unrecognized(want, unreadable, data)
		}
		return nil, wrongKind(withDefaults(gvk, want), want, err)
	}
	if d.GVK.Version == "" || d.GVK.Kind == "" {
		// Either it does not say, or what it says is no version.
		if _, unreadable := object.KindOf(data, f); unreadable != nil {
			return nil, unrecognized(want, unreadable, data)
		}
	}
	if t.Custom() && isCustom(into) {
		// A map has no type of which to be without saying so.
		text := string(data)
		if f == object.CBOR {
			if text, err = direct.Diagnose(data); err != nil {
				text = hex.EncodeToString(data)
			}
		}
		if d.GVK.Kind == "" {
			return nil, unrecognized(want, runtime.NewMissingKindErr(text), data)
		}
		// Another kind is for validation to refuse.
		if gv := d.GVK.GroupVersion(); gv != want.GroupVersion() {
			return nil, otherVersion(gv, want.GroupVersion())
		}
		q.auditRequest(d.Object, want, data, f)
		return &d, nil
	}
	if err := sameKind(t, withDefaults(d.GVK, want), want); err != nil {
		return nil, err
	}
	q.auditRequest(d.Object, want, data, f)
	if t.Custom() && t.Subresource == "" {
		into.GetObjectKind().SetGroupVersionKind(want)
	}
	return &d, nil
}

// strict deals with unknown and duplicate fields as the client asked.
func (q *request) strict(found []error, gvk, want schema.GroupVersionKind, validation string) error {
	switch {
	case len(found) == 0 || validation == metav1.FieldValidationIgnore:
	case validation == metav1.FieldValidationStrict:
		if gvk.Kind == "" {
			gvk = want
		}
		return wrongKind(gvk, want, runtime.NewStrictDecodingError(found))
	default:
		for _, e := range found {
			q.warn(e.Error())
		}
	}
	return nil
}

func isCustom(o runtime.Object) bool {
	_, ok := o.(runtime.Unstructured)
	return ok
}

// withDefaults is the kind that a body has which does not say all of it.
func withDefaults(gvk, want schema.GroupVersionKind) schema.GroupVersionKind {
	if gvk.Kind == "" {
		gvk.Kind = want.Kind
	}
	if gvk.Version == "" && (gvk.Group == "" || gvk.Group == want.Group) {
		gvk.Group, gvk.Version = want.Group, want.Version
	}
	return gvk
}

// sameKind judges what kind a body says it is of, in the words of upstream, which
// reads a body as what it says and then converts it to its own internal type.
func sameKind(t resource.Target, gvk, want schema.GroupVersionKind) error {
	if want.Kind == "" || gvk == want {
		return nil
	}
	known := t.Custom() || t.Subresource != "" || scheme.Scheme.Recognizes(gvk)
	switch {
	case known && gvk.Kind == want.Kind:
		return otherVersion(gvk.GroupVersion(), want.GroupVersion())
	case !known:
		return wrongKind(gvk, want, fmt.Errorf("no kind %q is registered for version %q in scheme %q", gvk.Kind, gvk.GroupVersion(), "pkg/api/legacyscheme/scheme.go:30"))
	}
	return wrongKind(gvk, want, fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", gvk.Version, gvk.Kind, internalPackage(want.Group), want.Kind))
}

// internalPackage is upstream's Go package of the internal types of a group.
func internalPackage(group string) string {
	if group == "" || group == "events.k8s.io" {
		return "core"
	}
	name, _, _ := strings.Cut(group, ".")
	return name
}

func otherVersion(got, want schema.GroupVersion) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", got, want))
}

// unrecognized is the error for a body that does not even show its kind.
func unrecognized(want schema.GroupVersionKind, cause error, data []byte) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, cause, summary(data)))
}

// summary is the beginning of a body, as text when it looks like JSON.
func summary(data []byte) string {
	const most = 30
	if len(data) == 0 {
		return "<empty>"
	}
	rest := ""
	isJSON := data[0] == '{'
	if len(data) > most {
		data, rest = data[:most], " ..."
	}
	if isJSON {
		return string(data) + rest
	}
	return hex.EncodeToString(data) + rest
}

// decodeObject reads the body as an object of the request's version and turns
// it into the storage version.
func (q *request) decodeObject(t resource.Target, validation string) (object.Object, error) {
	v := t.WireVersion()
	d, err := q.decodeLeniently(t, v.New(), v.GroupVersionKind, validation)
	if err != nil {
		return nil, err
	}
	obj, err := v.ToStorage(d.Object)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if t.Custom() {
		// What the schema does not know comes in one answer with the rest.
		unknown, err := object.Prune(t.Definition, obj)
		if err != nil {
			return nil, wrongKind(v.GroupVersionKind, v.GroupVersionKind, err)
		}
		d.Strict = append(d.Strict, unknown...)
	} else {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	return obj, q.strict(d.Strict, d.GVK, v.GroupVersionKind, validation)
}
