package apiserver

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/resource"
	"sagong/object"
)

const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
	mediaCBOR     = "application/cbor"
	mediaCBORs    = "application/cbor-seq" // of watches
)

// shape says what a client wants objects turned into.
type shape int

const (
	asObject shape = iota
	asTable
	asMetadata
)

// accepted is the outcome of content negotiation.
type accepted struct {
	format  object.Format
	as      shape
	version string // of meta.k8s.io, for as: "v1" or "v1beta1"
	list    bool   // asMetadata of lists
	pretty  bool
	// table options
	includeObject string
}

// contentType is the Content-Type of the response.
func (a accepted) contentType(watch bool) string {
	switch {
	case a.format == object.Protobuf && watch:
		return mediaProtobuf + ";stream=watch"
	case a.format == object.Protobuf:
		return mediaProtobuf
	case a.format == object.YAML:
		return mediaYAML
	case a.format == object.CBOR && watch:
		return mediaCBORs
	case a.format == object.CBOR:
		return mediaCBOR
	}
	return mediaJSON
}

// formats are those of answers, in the order in which a wildcard chooses.
var formats = []struct {
	object.Format
	media, subtype string
}{{object.JSON, mediaJSON, "json"}, {object.YAML, mediaYAML, "yaml"}, {object.Protobuf, mediaProtobuf, "vnd.kubernetes.protobuf"}, {object.CBOR, mediaCBOR, "cbor"}}

// text reports whether the format is JSON, or made of it.
func (a accepted) text() bool { return a.format == object.JSON || a.format == object.YAML }

// negotiate chooses the response's encoding from the Accept header. protobuf
// says whether the kind has that form, shaped whether Table and
// PartialObjectMetadata may be asked for.
func negotiate(r *http.Request, protobuf, watch, shaped bool) (accepted, error) {
	header := r.Header.Get("Accept")
	a := accepted{pretty: WantsPretty(r)}
	if shaped {
		a.includeObject = r.URL.Query().Get("includeObject")
	}
	if header == "" || header == "*/*" || header == mediaJSON {
		return a, nil
	}
	for _, clause := range goautoneg.ParseAccept(header) {
		if clause.Type != "application" && (clause.Type != "*" || clause.SubType != "*") {
			continue
		}
		for _, f := range formats {
			if clause.SubType != "*" && clause.SubType != f.subtype {
				continue
			}
			c := a
			c.format = f.Format
			if !c.allows(clause.Params, protobuf, shaped) {
				continue
			}
			if watch && f.Format == object.YAML {
				return a, notAcceptable(true) // asked for first, and no form of streams
			}
			return c, nil
		}
	}
	return a, notAcceptable(watch)
}

// allows reads the parameters of a media type, and reports whether the format
// can be had with them.
func (a *accepted) allows(params map[string]string, protobuf, shaped bool) bool {
	if s := params["stream"]; s != "" && (s != "watch" || a.format == object.YAML) {
		return false
	}
	if s := params["sv"]; s != "" && (s != "v1" || !shaped) {
		return false
	}
	if p, ok := params["pretty"]; ok {
		a.pretty = a.pretty || p == "1"
	}
	as, hasKind := params["as"]
	group, hasGroup := params["g"]
	version, hasVersion := params["v"]
	if !hasKind && !hasGroup && !hasVersion {
		return protobuf || a.format != object.Protobuf
	}
	if !shaped || group != metav1.GroupName || version != "v1" && version != "v1beta1" {
		return false
	}
	a.version = version
	switch as {
	case "Table":
		a.as = asTable
		return a.text()
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		a.as, a.list = asMetadata, as == "PartialObjectMetadataList" // has every form whatever the kind
		return true
	}
	return false
}

// WantsPretty says whether the reader is a person, or says so.
func WantsPretty(r *http.Request) bool {
	if strings.Contains(r.URL.RawQuery, "pretty") {
		if v := r.URL.Query().Get("pretty"); v != "" {
			b, _ := strconv.ParseBool(v)
			return b
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// notAcceptable names the forms that there are, though not every kind has each.
func notAcceptable(watch bool) error {
	types := mediaTypes
	if watch {
		types = mediaStreams
	}
	return &statusError{metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(types, ", "),
	}}
}

// notAcceptableShape refuses to make a list of an object, or the other way round.
// format shows the Go type that objects with that suffix have upstream.
func notAcceptableShape(format string, t resource.Target, suffix string) error {
	text := "*unstructured.Unstructured"
	if !t.Custom() {
		text = "*" + internalPackage(t.Group) + "." + t.Kind.Definition.Kind
	}
	return &statusError{metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Message: fmt.Sprintf(format, text+suffix),
	}}
}

// bodyFormat reads the Content-Type of a body.
func bodyFormat(r *http.Request) (object.Format, error) {
	header := r.Header.Get("Content-Type")
	if header == "" || header == mediaJSON {
		return object.JSON, nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err == nil {
		switch media {
		case mediaJSON:
			return object.JSON, nil
		case mediaYAML:
			return object.YAML, nil
		case mediaProtobuf:
			return object.Protobuf, nil // for a kind without that form, decoding says so
		case mediaCBOR:
			return object.CBOR, nil
		}
	}
	return 0, unsupportedMedia(mediaTypes)
}

func unsupportedMedia(types []string) error {
	return &statusError{metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s", strings.Join(types, ", ")),
	}}
}
