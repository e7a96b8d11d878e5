package apiserver

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/object"
)

const (
	mediaJSON     = "application/json"
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
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
	}
	return mediaJSON
}

// negotiate chooses the response's encoding from the Accept header. protobuf
// says whether the kind has that form, shaped whether Table and
// PartialObjectMetadata may be asked for.
func negotiate(r *http.Request, protobuf, watch, shaped bool) (accepted, error) {
	header := r.Header.Get("Accept")
	a := accepted{pretty: wantsPretty(r)}
	if shaped {
		a.includeObject = r.URL.Query().Get("includeObject")
	}
	if header == "" || header == "*/*" || header == mediaJSON {
		return a, nil
	}
	best, found := accepted{}, false
	bestQ := 0.0
	for clause := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(clause))
		if err != nil {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if v, err := strconv.ParseFloat(s, 64); err == nil {
				q = v
			}
		}
		if q <= bestQ {
			continue
		}
		c := a
		switch media {
		case mediaJSON, "*/*", "application/*":
			c.format = object.JSON
		case mediaYAML:
			if watch {
				continue
			}
			c.format = object.YAML
		case mediaProtobuf:
			if !protobuf {
				continue
			}
			c.format = object.Protobuf
		default:
			continue
		}
		if s := params["stream"]; s != "" && (s != "watch" || !watch) {
			continue
		}
		if as, ok := params["as"]; ok {
			if !shaped || params["g"] != metav1.GroupName || params["v"] != "v1" && params["v"] != "v1beta1" {
				continue
			}
			c.version = params["v"]
			switch as {
			case "Table":
				if c.format == object.Protobuf {
					continue
				}
				c.as = asTable
			case "PartialObjectMetadata", "PartialObjectMetadataList":
				c.as = asMetadata
			default:
				continue
			}
		}
		best, bestQ, found = c, q, true
	}
	if !found {
		return a, notAcceptable(protobuf, watch)
	}
	return best, nil
}

func wantsPretty(r *http.Request) bool {
	if v, ok := r.URL.Query()["pretty"]; ok && len(v) > 0 {
		b, err := strconv.ParseBool(v[0])
		return err != nil && v[0] == "" || b
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

func notAcceptable(protobuf, watch bool) error {
	types := []string{mediaJSON, mediaYAML}
	if protobuf {
		types = append(types, mediaProtobuf)
	}
	if watch {
		types = []string{mediaJSON + ";stream=watch"}
		if protobuf {
			types = append(types, mediaProtobuf+";stream=watch")
		}
	}
	return &statusError{metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(types, ", "),
	}}
}

// bodyFormat reads the Content-Type of a body.
func bodyFormat(r *http.Request, protobuf bool) (object.Format, error) {
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
			if protobuf {
				return object.Protobuf, nil
			}
		}
	}
	types := []string{mediaJSON, mediaYAML}
	if protobuf {
		types = append(types, mediaProtobuf)
	}
	return 0, unsupportedMedia(types)
}

func unsupportedMedia(types []string) error {
	return &statusError{metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s", strings.Join(types, ", ")),
	}}
}
