package apiserver

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/scheme"
)

// upstreamCodecs are those of an API server that serves CBOR.
func upstreamCodecs(t *testing.T) serializer.CodecFactory {
	gate := string(features.CBORServingAndStorage)
	set := func(on bool) {
		if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{gate: on}); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	t.Cleanup(func() { set(false) })
	return serializer.NewCodecFactory(scheme.Scheme, serializer.WithSerializer(cbor.NewSerializerInfo))
}

// scope is what upstream asks a kind's handler.
type scope struct{ protobuf, shaped bool }

func (s scope) AllowsMediaTypeTransform(_, subtype string, as *schema.GroupVersionKind) bool {
	switch {
	case as == nil:
		return s.protobuf || subtype != "vnd.kubernetes.protobuf"
	case !s.shaped || as.Group != metav1.GroupName || as.Version != "v1" && as.Version != "v1beta1":
		return false
	case as.Kind == "Table":
		return subtype == "json" || subtype == "yaml"
	}
	return as.Kind == "PartialObjectMetadata" || as.Kind == "PartialObjectMetadataList"
}

func (s scope) AllowsServerVersion(v string) bool { return s.shaped && v == "v1" }
func (s scope) AllowsStreamSchema(v string) bool  { return v == "watch" }

// TestNegotiationIsUpstreams: every Accept header has the outcome that it has with
// upstream's own negotiation.
func TestNegotiationIsUpstreams(t *testing.T) {
	codecs := upstreamCodecs(t)
	headers := []string{
		"application/vnd.kubernetes.protobuf, */*", "*/*, application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json",
		"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
		"application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
		"application/cbor", "application/cbor, application/json;q=0.5", "application/cbor-seq", "application/cbor-seq,application/json",
		"application/yaml", "application/yaml,application/json", "application/json;q=0", "*", "application", "", ",", ";", "application/json;stream=watch", "application/json;pretty=1",
	}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(s ...string) string { return s[random.IntN(len(s))] }
	for range 4000 {
		var clauses []string
		for range 1 + random.IntN(4) {
			c := pick("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/*", "*/*", "*", "text/plain", "application/cbor")
			for range random.IntN(4) {
				c += pick(";", " ; ", ";") + pick("as=Table", "as=PartialObjectMetadata", "as=PartialObjectMetadataList", "as=Other", "g=meta.k8s.io", "g=meta.k8s.io", "v=v1", "v=v1beta1", "v=v2",
					"as=Table;g=meta.k8s.io;v=v1", "as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "q=0.3", "q=0", "q=1", "q=x", "stream=watch", "stream=other", "sv=v1", "sv=v2", "pretty=1", "pretty=0", "odd=1", "as=", "charset=utf-8")
			}
			clauses = append(clauses, c)
		}
		headers = append(headers, strings.Join(clauses, pick(",", ", ")))
	}
	for _, h := range headers {
		for i := range 8 {
			protobuf, watch, shaped := i&1 == 0, i&2 != 0, i&4 != 0
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept", h)
			opts, info, err := negotiation.NegotiateOutputMediaType(r, codecs, scope{protobuf, shaped})
			if watch {
				_, err = negotiation.NegotiateOutputMediaTypeStream(r, codecs, scope{protobuf, shaped})
			}
			want := fmt.Sprint(err)
			if err == nil {
				want = info.MediaType
				if watch && want == mediaProtobuf {
					want += ";stream=watch"
				} else if watch && want == mediaCBOR {
					want = mediaCBORs
				}
				if opts.Convert != nil {
					want += " as " + strings.TrimSuffix(opts.Convert.Kind, "List") + " " + opts.Convert.Version
				}
				if opts.Pretty {
					want += " pretty"
				}
			}
			a, err := negotiate(r, protobuf, watch, shaped)
			got := fmt.Sprint(err)
			if err == nil {
				got = a.contentType(watch)
				switch a.as {
				case asTable:
					got += " as Table " + a.version
				case asMetadata:
					got += " as PartialObjectMetadata " + a.version
				}
				if a.pretty {
					got += " pretty"
				}
			}
			if got != want {
				t.Fatalf("%q (protobuf %v, watch %v, shaped %v):\n%s\nwant\n%s", h, protobuf, watch, shaped, got, want)
			}
		}
	}
}

func TestBodyFormatIsUpstreams(t *testing.T) {
	codecs := upstreamCodecs(t)
	for _, h := range []string{
		"", "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/yaml", "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf;x=y",
		"application/cbor", "application/cbor-seq", "text/plain", "application/", "/", ";", "application/json;;", "application/x-www-form-urlencoded", "*/*",
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Content-Type", h)
		want := ""
		info, err := negotiation.NegotiateInputSerializer(r, false, codecs)
		if err != nil {
			want = err.Error()
		} else {
			want = info.MediaType
		}
		got := ""
		if f, err := bodyFormat(r); err != nil {
			got = err.Error()
		} else {
			got = accepted{format: f}.contentType(false)
		}
		if got != want {
			t.Errorf("%q: %s\nwant %s", h, got, want)
		}
	}
}
