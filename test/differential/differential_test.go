// Package differential plays requests against a whole API server in the process
// and compares what it answers with what Kubernetes 1.37 answers, recorded in
// testdata as facts: code, reason, message, and for invalid objects each field
// with its text. There is no way to write the answers of this server into the
// files: each line was derived from upstream's code or its tests.
//
// A line is a case. See testdata/README for the language.
package differential

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/apiserver"
	"sagong/apiserver/resource"
	"sagong/apiserver/reviews"
	"sagong/kinds"
	"sagong/object"
	"sagong/store"
)

// world is the server and the objects that cases begin with.
type world struct {
	handler http.Handler
	store   store.Store
	objects map[string]*thing
	names   []string        // of objects, in order of the file
	kept    map[string]bool // keys of the definitions of custom kinds
}

// thing is a valid object to begin with.
type thing struct {
	def  *object.Definition
	gvk  schema.GroupVersionKind
	json []byte
	name string
}

const namespace = "ns"

// TestDifferential plays every line of testdata/*.txt.
func TestDifferential(t *testing.T) {
	w := start(t)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 2 {
		t.Fatal("no cases", err)
	}
	played := 0
	for _, file := range files {
		if base := filepath.Base(file); base == "objects.txt" || base == "definitions.txt" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			for n, line := range lines(t, file) {
				if line == "" || line[0] == '#' {
					continue
				}
				c, err := w.parse(line)
				if err != nil {
					t.Errorf("%s:%d: %v", file, n+1, err)
					continue
				}
				for _, subject := range c.subjects {
					played++
					if diff := w.play(t, c, subject); diff != "" {
						t.Errorf("%s:%d: %s\n%s", file, n+1, line, diff)
					}
				}
			}
		})
	}
	t.Logf("%d requests compared", played)
	if played < 1000 {
		t.Errorf("%d requests only", played)
	}
}

func start(t *testing.T) *world {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	scheme := object.NewScheme(kinds.All()...)
	e := resource.New(resource.Options{Store: s, Scheme: scheme, Fields: object.NewFieldManagers()})
	reviews.Access{}.Register(e) // only refusals are asked for
	reviews.Tokens{}.Register(e)
	srv := apiserver.New(apiserver.Options{Engine: e})
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	w := &world{handler: srv, store: s, objects: map[string]*thing{}}
	w.define(t, e)
	for n, line := range lines(t, "testdata/objects.txt") {
		name, body, ok := strings.Cut(line, " ")
		if !ok || name[0] == '#' {
			continue
		}
		o := &thing{json: []byte(body)}
		var head metav1.PartialObjectMetadata
		if err := json.Unmarshal(o.json, &head); err != nil {
			t.Fatalf("objects.txt:%d: %v", n+1, err)
		}
		o.gvk, o.name = head.GroupVersionKind(), head.Name
		o.def = scheme.ByKind(o.gvk)
		if o.def == nil {
			t.Fatalf("objects.txt:%d: no kind %s", n+1, o.gvk)
		}
		w.objects[name] = o
		w.names = append(w.names, name)
	}
	return w
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		out = append(out, strings.TrimSpace(in.Text()))
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestObjects: every kind that can be stored has a valid object.
func TestObjects(t *testing.T) {
	w := start(t)
	have := map[schema.GroupVersionResource]bool{}
	for _, name := range w.names {
		o := w.objects[name]
		have[o.def.GVR()] = true
		w.clear(t)
		if a := w.send(request{method: "POST", path: o.collection(), body: string(o.json)}); a.code != http.StatusCreated {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
	for _, d := range kinds.All() {
		if d.Kind == "PodCertificateRequest" {
			continue // holds a signature over the identifier of a pod
		}
		if !d.Virtual && !have[d.GVR()] && (d.Verbs == nil || slices.Contains(d.Verbs, "create")) {
			t.Errorf("there is no object of kind %s", d.GVK())
		}
	}
}

func (o *thing) collection() string {
	p := "/apis/" + o.gvk.Group + "/" + o.gvk.Version
	if o.gvk.Group == "" {
		p = "/api/" + o.gvk.Version
	}
	if o.def.Namespaced {
		p += "/namespaces/" + namespace
	}
	return p + "/" + o.def.Resource
}

// clear empties the store between cases.
func (w *world) clear(t *testing.T) {
	t.Helper()
	l, err := w.store.List(t.Context(), "", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ops []store.Op
	for _, r := range l.Records {
		if !w.kept[r.Key] {
			ops = append(ops, store.Op{Key: r.Key, Expect: store.AnyRev, Delete: true})
		}
	}
	for _, r := range w.store.Commit(t.Context(), ops) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

type request struct {
	method, path, body string
	header             http.Header
}

type answer struct {
	code     int
	body     string
	warnings []string
}

func (w *world) send(r request) answer {
	path, query, _ := strings.Cut(r.path, "?")
	req := httptest.NewRequestWithContext(context.Background(), r.method, "http://server/", strings.NewReader(r.body))
	req.URL.Path, req.URL.RawQuery = path, query
	req.RequestURI = r.path
	if r.header != nil {
		req.Header = r.header
	} else if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	return answer{rec.Code, rec.Body.String(), rec.Result().Header.Values("Warning")}
}

// play carries a case out with one object and says what is different.
func (w *world) play(t *testing.T, c *testCase, subject string) string {
	t.Helper()
	w.clear(t)
	o := w.objects[subject]
	r, err := w.request(c, o)
	if err != nil {
		return subject + ": " + err.Error()
	}
	a := w.send(r)
	if diff := c.want.compare(a, o, c.fill(o)); diff != "" {
		return fmt.Sprintf("%s: %s %s\n%s", subject, r.method, r.path, diff)
	}
	return ""
}

// request makes the request of a case, with what it needs already created.
func (w *world) request(c *testCase, o *thing) (request, error) {
	r := request{header: http.Header{}}
	for k, v := range c.header {
		r.header.Set(k, v)
	}
	if r.header.Get("Content-Type") == "" {
		r.header.Set("Content-Type", "application/json")
	}
	query := ""
	if c.query != "" {
		query = "?" + c.query
	}
	if c.raw {
		r.method, r.path, r.body = c.verb, c.path, c.text
		if o != nil {
			replace := strings.NewReplacer("{collection}", o.collection(), "{object}", o.collection()+"/"+o.name)
			r.path = replace.Replace(r.path)
			r.body = c.fill(o)(r.body)
		}
		if strings.Contains(c.path, "{object}") {
			if _, err := w.create(o, nil); err != nil {
				return r, err
			}
		}
		r.path += query
		return r, nil
	}
	at := o.collection() + "/" + o.name
	switch c.verb {
	case "create":
		body, err := edited(o.json, c.edits)
		r.method, r.path, r.body = "POST", o.collection()+query, body
		return r, err
	case "update", "status":
		stored, err := w.create(o, c.before)
		if err != nil {
			return r, err
		}
		body, err := edited(stored, c.edits)
		if c.verb == "status" {
			at += "/status"
		}
		r.method, r.path, r.body = "PUT", at+query, body
		return r, err
	case "json", "merge", "strategic", "apply":
		if c.text == "" {
			return r, fmt.Errorf("no patch")
		}
		if c.subresource != "" {
			at += "/" + c.subresource
		}
		if _, err := w.create(o, c.before); err != nil {
			return r, err
		}
		r.header.Set("Content-Type", map[string]string{
			"json": "application/json-patch+json", "merge": "application/merge-patch+json",
			"strategic": "application/strategic-merge-patch+json", "apply": "application/apply-patch+yaml",
		}[c.verb])
		r.method, r.path, r.body = "PATCH", at+query, c.fill(o)(c.text)
		return r, nil
	case "delete":
		if _, err := w.create(o, c.before); err != nil {
			return r, err
		}
		r.method, r.path, r.body = "DELETE", at+query, c.text
		return r, nil
	}
	return r, fmt.Errorf("no verb %q", c.verb)
}

func (w *world) create(o *thing, edits []edit) ([]byte, error) {
	body, err := edited(o.json, edits)
	if err != nil {
		return nil, err
	}
	a := w.send(request{method: "POST", path: o.collection(), body: body})
	if a.code != http.StatusCreated {
		return nil, fmt.Errorf("cannot create what the case begins with: %d %s", a.code, a.body)
	}
	return []byte(a.body), nil
}

// fill replaces what stands for the object in texts.
func (c *testCase) fill(o *thing) func(string) string {
	if o == nil {
		return func(s string) string { return s }
	}
	gr, gk, internal := o.def.Resource, o.gvk.Kind, "core"
	if o.gvk.Group != "" {
		gr, gk = gr+"."+o.gvk.Group, gk+"."+o.gvk.Group
		internal, _, _ = strings.Cut(o.gvk.Group, ".")
	}
	if o.gvk.Group == "events.k8s.io" {
		// Both events are of one internal type, of which errors take their kind.
		internal, gk = "core", o.gvk.Kind
	}
	r := strings.NewReplacer("{name}", o.name, "{kind}", o.gvk.Kind, "{version}", o.gvk.Version,
		"{apiVersion}", o.gvk.GroupVersion().String(), "{gr}", gr, "{gk}", gk, "{resource}", o.def.Resource, "{internal}", internal)
	return r.Replace
}

var uid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// inRecord is the only text that has a revision given by chance.
var inRecord = regexp.MustCompile(`ResourceVersion in record \(\d+\)`)

// compare checks an answer.
func (w want) compare(a answer, o *thing, fill func(string) string) string {
	a.body = uid.ReplaceAllString(a.body, "UID")
	a.body = inRecord.ReplaceAllString(a.body, "ResourceVersion in record (RV)")
	if a.code != w.code {
		return fmt.Sprintf("got code %d, want %d: %s", a.code, w.code, a.body)
	}
	var diff []string
	same := func(what string, got, want any) {
		if g, v := fmt.Sprint(got), fmt.Sprint(want); g != v {
			diff = append(diff, fmt.Sprintf("%s\n   got %s\n  want %s", what, g, v))
		}
	}
	if len(w.warnings) > 0 {
		var got, want []string
		for _, x := range a.warnings {
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(x, `299 - "`), `"`))
		}
		for _, x := range w.warnings {
			want = append(want, strings.ReplaceAll(strings.ReplaceAll(fill(x), `\`, `\\`), `"`, `\"`))
		}
		same("warnings", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if w.code < 300 {
		var got map[string]any
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			return err.Error()
		}
		for _, e := range w.fields {
			v, _ := e.get(got)
			b, err := json.Marshal(v)
			if err != nil {
				return err.Error()
			}
			same(e.text, string(b), fill(string(e.value)))
		}
		return strings.Join(diff, "\n")
	}
	if w.reason == "text" {
		same("text", strings.TrimSpace(a.body), fill(w.message))
		return strings.Join(diff, "\n")
	}
	var s metav1.Status
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		return "the answer is no Status: " + a.body
	}
	if s.Kind != "Status" || s.APIVersion != "v1" || s.Status != "Failure" || int(s.Code) != w.code {
		diff = append(diff, "no proper Status: "+a.body)
	}
	same("reason", s.Reason, w.reason)
	if w.message != "" {
		same("message", strings.TrimSpace(s.Message), fill(w.message))
	}
	if w.causes == nil {
		return strings.Join(diff, "\n")
	}
	var got, texts, wanted []string
	for i, c := range s.Details.Causes {
		got = append(got, c.Field+": "+c.Message)
		if i < len(w.causes) && string(c.Type) != causeType(w.causes[i]) {
			diff = append(diff, fmt.Sprintf("type of cause %d: %s", i, c.Type))
		}
	}
	for _, c := range w.causes {
		c = fill(c)
		wanted = append(wanted, c)
		if !slices.Contains(texts, c) { // an aggregate says a thing once
			texts = append(texts, c)
		}
	}
	same("causes", strings.Join(got, "\n       "), strings.Join(wanted, "\n       "))
	text := strings.Join(texts, ", ")
	if len(texts) > 1 {
		text = "[" + text + "]"
	}
	kind, name := w.kind, w.name
	if kind == "" {
		kind = fill("{gk}")
	} else {
		name = ""
	}
	if w.name == "" && w.kind == "" {
		name = s.Details.Name
	}
	same("message", s.Message, fmt.Sprintf("%s %q is invalid: %s", kind, name, text))
	k, g, _ := strings.Cut(kind, ".")
	same("details.kind", s.Details.Kind+"."+s.Details.Group, k+"."+g)
	return strings.Join(diff, "\n")
}

// causeType is the type that goes with a text of apimachinery's field errors.
func causeType(cause string) string {
	_, text, _ := strings.Cut(cause, ": ")
	for prefix, t := range map[string]string{
		"Required value": "FieldValueRequired", "Invalid value": "FieldValueInvalid", "Unsupported value": "FieldValueNotSupported",
		"Duplicate value": "FieldValueDuplicate", "Forbidden": "FieldValueForbidden", "Not found": "FieldValueNotFound",
		"Too long": "FieldValueTooLong", "Too many": "FieldValueTooMany", "Internal error": "InternalError",
	} {
		if strings.HasPrefix(text, prefix) {
			return t
		}
	}
	return "?"
}
