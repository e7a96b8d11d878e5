package crd

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"sagong/apiserver/webhookclient"
	"sagong/object"
)

// Conversions calls conversion webhooks; webhookclient.Clients does.
type Conversions interface {
	Post(ctx context.Context, c webhookclient.Config, body []byte, limit int64) ([]byte, error)
}

// converter turns objects of a kind from one version into another.
type converter interface {
	// convert returns fresh objects of version to, in order; it does not change ms.
	// Of objects that are stored it may know the answer.
	convert(ms []map[string]any, to schema.GroupVersion, stored bool) ([]map[string]any, error)
	changesMetadata() bool
}

func newConverter(k *kind, w webhooks) converter {
	if c := k.crd.Spec.Conversion; c != nil && c.Strategy == apiextensionsv1.WebhookConverter && c.Webhook != nil && c.Webhook.ClientConfig != nil {
		return &webhook{k: k, webhooks: w, config: clientConfig(c.Webhook.ClientConfig), reviews: c.Webhook.ConversionReviewVersions}
	}
	return nop{}
}

// nop is the strategy None: versions differ in nothing but their name.
type nop struct{}

func (nop) changesMetadata() bool { return false }

func (nop) convert(ms []map[string]any, to schema.GroupVersion, _ bool) ([]map[string]any, error) {
	all := make([]map[string]any, len(ms))
	for i, m := range ms {
		all[i] = renamed(m, to)
	}
	return all, nil
}

func renamed(m map[string]any, to schema.GroupVersion) map[string]any {
	out := runtime.DeepCopyJSON(m)
	out["apiVersion"] = to.String()
	return out
}

func convertOne(c converter, m map[string]any, to schema.GroupVersion) (map[string]any, error) {
	all, err := c.convert([]map[string]any{m}, to, false)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// decode turns a stored object into one of this version.
func (r *revision) decode(m map[string]any) (map[string]any, error) {
	all, err := r.decodeAll([]map[string]any{m})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// decodeAll turns stored objects into objects of this version.
func (r *revision) decodeAll(ms []map[string]any) ([]map[string]any, error) {
	var foreign []map[string]any
	var at []int
	for i, m := range ms {
		v, _ := m["apiVersion"].(string)
		if v == r.gvk.GroupVersion().String() {
			continue
		}
		from, err := schema.ParseGroupVersion(v)
		if err != nil {
			return nil, err
		}
		was := r.version(from.Version)
		if was == nil || from.Group != r.gvk.Group {
			return nil, fmt.Errorf("request to convert CR from an invalid group/version: %s", v)
		}
		// What is stored is brought into the form its own version has today.
		if _, err := was.coerce(m, false, true); err != nil {
			return nil, err
		}
		was.fillIn(&unstructured.Unstructured{Object: m})
		foreign, at = append(foreign, m), append(at, i)
	}
	converted, err := r.convert.convert(foreign, r.gvk.GroupVersion(), true)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		ms[i] = converted[n]
	}
	for i, m := range ms {
		_, converted := slices.BinarySearch(at, i)
		if _, err := r.coerce(m, false, !converted); err != nil {
			return nil, err
		}
		if !converted { // those have the defaults of the version they were stored in
			r.fillIn(&unstructured.Unstructured{Object: m})
		}
		if meta, ok := m["metadata"].(map[string]any); ok && meta["generation"] == nil {
			meta["generation"] = int64(1) // objects made before kinds counted
		}
	}
	return ms, nil
}

// encode turns an object of this version into the storage version.
func (r *revision) encode(m map[string]any) (map[string]any, error) {
	if r.spec.Storage {
		return m, nil
	}
	out, err := convertOne(r.convert, m, r.storage.gvk.GroupVersion())
	if err != nil {
		return nil, err
	}
	_, err = r.storage.coerce(out, false, false)
	return out, err
}

// convertFields makes an object of another version, to compare who set what.
func (r *revision) convertFields(u *unstructured.Unstructured, to schema.GroupVersion) (*unstructured.Unstructured, error) {
	if to.Group != r.gvk.Group || r.version(to.Version) == nil {
		return nil, runtime.NewNotRegisteredErrForKind("custom resources", to.WithKind(r.gvk.Kind))
	}
	if gv := u.GroupVersionKind().GroupVersion(); gv.Group != r.gvk.Group || r.version(gv.Version) == nil {
		return nil, runtime.NewNotRegisteredErrForKind("custom resources", u.GroupVersionKind())
	}
	m, err := convertOne(r.convert, u.Object, to)
	if err != nil {
		return nil, err
	}
	return &unstructured.Unstructured{Object: m}, nil
}

const (
	// conversionTime bounds one call, conversionSize its answer in bytes. A call has
	// conversionObjects at most, or as many as make an eighth of that.
	conversionTime    = 30 * time.Second
	conversionSize    = 10 << 20
	conversionObjects = 500
)

// webhooks is what all conversions by webhook share.
type webhooks struct {
	calls  Conversions  // nil: there are none
	known  *converted   // nil: nothing is kept
	tracer trace.Tracer // nil: nothing is traced
}

// webhook converts by asking a server of the kind's author.
type webhook struct {
	k *kind
	webhooks
	config  webhookclient.Config
	reviews []string
}

func (*webhook) changesMetadata() bool { return true }

func clientConfig(c *apiextensionsv1.WebhookClientConfig) webhookclient.Config {
	out := webhookclient.Config{CABundle: c.CABundle}
	if c.URL != nil {
		out.URL = *c.URL
	}
	if s := c.Service; s != nil {
		out.Service = &webhookclient.Service{Namespace: s.Namespace, Name: s.Name, Port: 443}
		if s.Port != nil {
			out.Service.Port = *s.Port
		}
		if s.Path != nil {
			out.Service.Path = *s.Path
		}
	}
	return out
}

// sent is an object that the webhook is asked to convert.
type sent struct {
	at  int // among all
	raw []byte
	as  conversion
}

func (w *webhook) convert(ms []map[string]any, to schema.GroupVersion, stored bool) ([]map[string]any, error) {
	all := make([]map[string]any, len(ms))
	var asked []sent
	for i, m := range ms {
		in := &unstructured.Unstructured{Object: m}
		from := in.GroupVersionKind()
		if len(m) == 2 && from.Kind != "" || from.GroupVersion() == to {
			all[i] = renamed(m, to) // an empty object
			continue
		}
		raw, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("conversion webhook for %v failed: %w", from, err)
		}
		s := sent{at: i, raw: raw}
		if stored && w.known != nil {
			s.as = conversion{w, to.Version, sha256.Sum256(raw)}
			if b := w.known.get(s.as); b != nil {
				if err := kjson.UnmarshalCaseSensitivePreserveInts(b, &all[i]); err != nil {
					return nil, err
				}
				continue
			}
		}
		asked = append(asked, s)
	}
	for len(asked) > 0 {
		n, err := w.convertSome(ms, asked, to, all)
		if err != nil {
			return nil, err
		}
		asked = asked[n:]
	}
	return all, nil
}

// convertSome converts the first of those that are asked for, as many as fit into
// one call, and returns their number.
func (w *webhook) convertSome(ms []map[string]any, asked []sent, to schema.GroupVersion, all []map[string]any) (int, error) {
	from := (&unstructured.Unstructured{Object: ms[asked[0].at]}).GroupVersionKind()
	if w.calls == nil {
		return 0, fmt.Errorf("conversion webhook for %v failed: this server calls no webhooks", from)
	}
	var raws []runtime.RawExtension
	for size := 0; len(raws) < len(asked) && len(raws) < conversionObjects && size < conversionSize/8; {
		raw := asked[len(raws)].raw
		raws, size = append(raws, runtime.RawExtension{Raw: raw}), size+len(raw)
	}
	outs, err := w.ask(raws, to)
	if err != nil {
		var count wrongCount
		if errors.As(err, &count) {
			return 0, fmt.Errorf("conversion webhook for %v %w", from, err)
		}
		return 0, fmt.Errorf("conversion webhook for %v failed: %w", from, err)
	}
	for n, out := range outs {
		in := &unstructured.Unstructured{Object: ms[asked[n].at]}
		from, got := in.GroupVersionKind(), out.GroupVersionKind()
		switch {
		case got.GroupVersion() != to:
			return 0, fmt.Errorf("conversion webhook for %v returned invalid object at index %d: invalid groupVersion (expected %v, received %v)", from, n, to, got.GroupVersion())
		case got.Kind != from.Kind:
			return 0, fmt.Errorf("conversion webhook for %v returned invalid object at index %d: invalid kind (expected %v, received %v)", from, n, from.Kind, got.Kind)
		}
		if err := sameObject(in, out); err != nil {
			return 0, fmt.Errorf("conversion webhook for %v returned invalid object: %w", from, err)
		}
		if err := keepMetadata(in, out); err != nil {
			return 0, fmt.Errorf("conversion webhook for %v returned invalid metadata: %w", from, err)
		}
		all[asked[n].at] = out.Object
	}
	for n, out := range outs {
		if s := asked[n]; s.as.by != nil {
			if b, err := json.Marshal(out.Object); err == nil {
				w.known.put(s.as, b)
			}
		}
	}
	return len(outs), nil
}

// ask sends objects and returns what comes back for each.
func (w *webhook) ask(raws []runtime.RawExtension, to schema.GroupVersion) (_ []*unstructured.Unstructured, err error) {
	version := ""
	for _, v := range w.reviews {
		if v == "v1" || v == "v1beta1" {
			version = v
			break
		}
	}
	if version == "" {
		return nil, errors.New("no supported conversion review versions")
	}
	uid := types.UID(uuid.NewString())
	// Both versions of ConversionReview are alike.
	apiVersion := apiextensionsv1.GroupName + "/" + version
	body, err := json.Marshal(&apiextensionsv1.ConversionReview{
		TypeMeta: metav1.TypeMeta{Kind: "ConversionReview", APIVersion: apiVersion},
		Request:  &apiextensionsv1.ConversionRequest{UID: uid, DesiredAPIVersion: to.String(), Objects: raws},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(w.k.life, conversionTime)
	defer cancel()
	if w.tracer != nil {
		// A trace of its own: many requests may wait for one call.
		var s trace.Span
		ctx, s = w.tracer.Start(ctx, "Call conversion webhook", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String("custom-resource-definition", w.k.crd.Name), attribute.String("desired-api-version", to.String()), attribute.Int("object-count", len(raws))))
		defer s.End()
		defer func() {
			s.SetAttributes(attribute.Bool("success", err == nil))
			if err != nil {
				s.RecordError(err)
				s.SetStatus(codes.Error, err.Error())
			}
		}()
	}
	answer, err := w.calls.Post(ctx, w.config, body, conversionSize)
	if err != nil {
		return nil, err
	}
	return readReview(answer, version, uid, len(raws))
}

// wrongCount is an answer with another number of objects than were sent.
type wrongCount struct{ got, want int }

func (w wrongCount) Error() string {
	return fmt.Sprintf("returned %d objects, expected %d", w.got, w.want)
}

// readReview reads the answer to the conversion of n objects.
func readReview(answer []byte, version string, uid types.UID, n int) ([]*unstructured.Unstructured, error) {
	var review apiextensionsv1.ConversionReview
	if len(answer) == 0 {
		return nil, errors.New("0-length response with status code: 200 and content type: application/json")
	}
	if _, err := object.KindOf(answer, object.JSON); err != nil {
		return nil, err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(answer, &review); err != nil {
		return nil, err
	}
	want := schema.GroupVersionKind{Group: apiextensionsv1.GroupName, Version: version, Kind: "ConversionReview"}
	// Version v1beta1 never demanded kind and UID.
	if got := review.GroupVersionKind(); version == "v1" && got != want {
		// As upstream's scheme words it.
		if got.Group == want.Group && got.Version == "v1beta1" && got.Kind == want.Kind {
			return nil, fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", got.Version, got.Kind, want.Version, want.Kind)
		}
		return nil, runtime.NewNotRegisteredErrForKind("pkg/runtime/scheme.go:111", got)
	}
	res := review.Response
	switch {
	case res == nil:
		return nil, errors.New("no response provided")
	case version == "v1" && res.UID != uid:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", uid, res.UID)
	case res.Result.Status != metav1.StatusSuccess && res.Result.Message != "":
		return nil, errors.New(res.Result.Message)
	case res.Result.Status != metav1.StatusSuccess:
		return nil, fmt.Errorf("response.result.status was '%s', not 'Success'", res.Result.Status)
	case len(res.ConvertedObjects) != n:
		return nil, wrongCount{len(res.ConvertedObjects), n}
	}
	all := make([]*unstructured.Unstructured, n)
	for i, o := range res.ConvertedObjects {
		out := &unstructured.Unstructured{}
		if err := kjson.UnmarshalCaseSensitivePreserveInts(o.Raw, &out.Object); err != nil {
			return nil, err
		}
		if out.Object == nil {
			return nil, errors.New("the converted object is null")
		}
		all[i] = out
	}
	return all, nil
}

func sameObject(in, out *unstructured.Unstructured) error {
	for _, f := range []struct{ name, was, is string }{
		{"name", in.GetName(), out.GetName()}, {"namespace", in.GetNamespace(), out.GetNamespace()}, {"UID", string(in.GetUID()), string(out.GetUID())},
	} {
		if f.was != f.is {
			return fmt.Errorf("must have the same %s: %v != %v", f.name, f.was, f.is)
		}
	}
	return nil
}

// keepMetadata puts back all metadata but labels and annotations, which a webhook
// may change.
func keepMetadata(in, out *unstructured.Unstructured) error {
	obj, found := out.Object["metadata"]
	if !found {
		return errors.New("missing metadata in converted object")
	}
	got, ok := obj.(map[string]any)
	if !ok {
		return fmt.Errorf("invalid metadata of type %T in converted object", obj)
	}
	was, _ := in.Object["metadata"].(map[string]any)
	kept := runtime.DeepCopyJSON(was)
	if kept == nil {
		kept = map[string]any{}
	}
	for _, name := range []string{"labels", "annotations"} {
		v := got[name]
		if v == nil {
			delete(kept, name)
			continue
		}
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("invalid metadata.%s of type %T in converted object", name, v)
		}
		texts := make(map[string]string, len(m))
		for k, v := range m {
			if texts[k], ok = v.(string); !ok {
				return fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", name, k, v)
			}
		}
		var errs field.ErrorList
		if name == "labels" {
			errs = metav1validation.ValidateLabels(texts, field.NewPath("metadata", "labels"))
		} else {
			errs = apivalidation.ValidateAnnotations(texts, field.NewPath("metadata", "annotation"))
		}
		if len(errs) > 0 {
			return errs.ToAggregate()
		}
		kept[name] = m
	}
	out.Object["metadata"] = kept
	return nil
}
