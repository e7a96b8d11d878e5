package discovery

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"sagong/object"
)

// forms of documents, in the order in which a wildcard chooses.
var forms = []struct {
	object.Format
	media string
}{{object.JSON, "application/json"}, {object.YAML, "application/yaml"}, {object.Protobuf, "application/vnd.kubernetes.protobuf"}, {object.CBOR, "application/cbor"}}

// asWhole are the parameters of a media type that ask for the aggregated form.
const asWhole = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// negotiate chooses the form of an answer: the first that is asked for and that
// there is. Whoever names the aggregated form anywhere gets that, as upstream's
// clients rely on.
func negotiate(accept string, root bool) (f object.Format, media string, whole, ok bool) {
	clauses := goautoneg.ParseAccept(accept)
	choose := func(whole bool) bool {
		for _, c := range clauses {
			_, as := c.Params["as"]
			_, g := c.Params["g"]
			_, v := c.Params["v"]
			if converted := as || g || v; converted != whole {
				continue
			}
			if s := c.Params["stream"]; c.Params["sv"] != "" || s != "" && s != "watch" ||
				whole && (c.Params["as"] != "APIGroupDiscoveryList" || c.Params["g"] != "apidiscovery.k8s.io" || c.Params["v"] != "v2") {
				continue
			}
			for _, form := range forms {
				if c.Type == "*" && c.SubType == "*" || c.Type == "application" && (c.SubType == "*" || form.media == "application/"+c.SubType) {
					if c.Params["stream"] == "watch" && form.Format == object.YAML {
						continue
					}
					f, media = form.Format, form.media
					return true
				}
			}
		}
		return false
	}
	if root && choose(true) {
		return f, media + asWhole, true, true
	}
	if accept == "" {
		return object.JSON, forms[0].media, false, true
	}
	return f, media, false, choose(false)
}

// notAcceptable is upstream's answer to who takes no form that there is.
func notAcceptable(w http.ResponseWriter) {
	media := make([]string, len(forms))
	for i, f := range forms {
		media[i] = f.media
	}
	b, err := json.MarshalIndent(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(media, ", "),
	}, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", forms[0].media)
	w.WriteHeader(http.StatusNotAcceptable)
	_, _ = w.Write(b)
}

// in is a document in one of the forms.
func (d document) in(f object.Format) ([]byte, error) {
	switch f {
	case object.YAML:
		return yaml.JSONToYAML(d.body)
	case object.CBOR:
		return object.AppendCBOR(nil, d.object)
	case object.Protobuf:
		msg, err := object.Marshal(d.object)
		if err != nil {
			return nil, err
		}
		gvk := d.object.GetObjectKind().GroupVersionKind()
		if gvk.Version == "" {
			gvk.Version = "v1" // the document of /api says no version in JSON
		}
		return append(object.AppendEnvelope(nil, gvk.GroupVersion().String(), gvk.Kind, len(msg)), msg...), nil
	}
	return d.body, nil
}
