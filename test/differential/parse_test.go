package differential

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// testCase is a line.
type testCase struct {
	verb        string // create, update, ..., or a method
	subresource string // of a patch
	query       string
	header      map[string]string
	subjects    []string // names of objects; one empty name for a request without
	raw         bool
	path, text  string // of a raw request; the text of a patch or of delete options
	before      []edit // on the object before it is created
	edits       []edit
	want        want
}

// want is what must come back.
type want struct {
	code       int
	reason     string
	message    string
	kind, name string   // of the Invalid error when it is not the object's
	causes     []string // "field: text"
	fields     []edit   // of an object
	warnings   []string
}

// edit sets one field.
type edit struct {
	text  string
	path  []any // keys and indexes
	value json.RawMessage
}

func (w *world) parse(line string) (*testCase, error) {
	ask, expect, ok := strings.Cut(line, " => ")
	if !ok {
		return nil, errors.New(`no " => "`)
	}
	c := &testCase{header: map[string]string{}}
	if err := c.want.parse(strings.TrimSpace(expect)); err != nil {
		return nil, err
	}
	c.verb, ask, _ = strings.Cut(ask, " ")
	c.verb, c.query, _ = strings.Cut(c.verb, "?")
	c.verb, c.subresource, _ = strings.Cut(c.verb, "/")
	c.raw = c.verb == strings.ToUpper(c.verb)
	if c.raw {
		c.path, ask, _ = strings.Cut(ask, " ")
		c.path, c.query, _ = strings.Cut(c.path, "?")
		c.subjects = []string{""}
		if strings.Contains(c.path, "{") {
			var names string
			names, ask, _ = strings.Cut(ask, " ")
			if c.subjects = w.choose(names); len(c.subjects) == 0 {
				return nil, fmt.Errorf("no object %q", names)
			}
		}
	} else {
		var names string
		names, ask, _ = strings.Cut(ask, " ")
		if c.subjects = w.choose(names); len(c.subjects) == 0 {
			return nil, fmt.Errorf("no object %q", names)
		}
	}
	for strings.HasPrefix(ask, "[") { // [Accept: text/html]
		head, rest, ok := strings.Cut(ask, "]")
		k, v, colon := strings.Cut(head[1:], ": ")
		if !ok || !colon {
			break
		}
		c.header[k], ask = v, strings.TrimSpace(rest)
	}
	var err error
	switch c.verb {
	case "create", "update", "status":
		if before, after, ok := strings.Cut(ask, " then "); ok {
			if c.before, err = parseEdits(before); err != nil {
				return nil, err
			}
			ask = after
		}
		c.edits, err = parseEdits(ask)
	default:
		c.text = strings.TrimSpace(ask)
		if quoted, ok := strings.CutPrefix(c.text, "$"); ok { // with line ends
			c.text, err = strconv.Unquote(quoted)
		}
	}
	return c, err
}

// choose finds the objects of a list of names: "*" are all of built-in kinds,
// "*namespaced" and "*cluster" those, "*custom" the others, "-name" leaves one out.
func (w *world) choose(names string) []string {
	chosen := map[string]bool{}
	for _, n := range strings.Split(names, ",") {
		switch without, cut := strings.CutPrefix(n, "-"); {
		case cut:
			delete(chosen, without)
		case strings.HasPrefix(n, "*"):
			for _, name := range w.names {
				d := w.objects[name].def
				switch {
				case d.Dynamic != nil != (n == "*custom"):
				case n == "*", n == "*custom", d.Namespaced == (n == "*namespaced"):
					chosen[name] = true
				}
			}
		case w.objects[n] != nil:
			chosen[n] = true
		default:
			return nil
		}
	}
	var out []string
	for _, n := range w.names {
		if chosen[n] {
			out = append(out, n)
		}
	}
	return out
}

// parse reads "422 | field: text | field: text", "404 NotFound | message" or
// "200 | field=value".
func (w *want) parse(s string) error {
	parts := strings.Split(s, " | ")
	head := strings.Fields(parts[0])
	var err error
	if w.code, err = strconv.Atoi(head[0]); err != nil {
		return err
	}
	var rest []string
	for _, p := range parts[1:] {
		if text, ok := strings.CutPrefix(p, "warn "); ok {
			w.warnings = append(w.warnings, text)
		} else {
			rest = append(rest, p)
		}
	}
	switch {
	case w.code < 300:
		for _, p := range rest {
			e, err := parseEdits(p)
			if err != nil {
				return err
			}
			w.fields = append(w.fields, e...)
		}
	case w.code == 422 && len(head) < 3 && (len(head) == 1 || head[1] != "Invalid"):
		w.reason = "Invalid"
		if len(head) == 2 {
			w.kind = head[1]
		}
		if w.causes = rest; len(rest) == 0 {
			return errors.New("no causes")
		}
	default:
		if len(head) == 2 {
			w.reason = head[1]
		}
		w.message = strings.Join(rest, " | ")
		if w.message == "" {
			return errors.New("no message")
		}
		if quoted, ok := strings.CutPrefix(w.message, "$"); ok { // with line ends
			w.message, err = strconv.Unquote(quoted)
			return err
		}
	}
	return nil
}

// parseEdits reads "spec.ports[0].name="a" spec.x=null".
func parseEdits(s string) ([]edit, error) {
	var out []edit
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		path, rest, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("no value for %q", s)
		}
		e := edit{text: path}
		var err error
		if e.path, err = parsePath(path); err != nil {
			return nil, err
		}
		d := json.NewDecoder(strings.NewReader(rest))
		if err := d.Decode(&e.value); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, e)
		s = rest[d.InputOffset():]
	}
	return out, nil
}

func parsePath(s string) ([]any, error) {
	var out []any
	for s != "" {
		s = strings.TrimPrefix(s, ".")
		if inside, ok := strings.CutPrefix(s, "["); ok {
			key, rest, ok := strings.Cut(inside, "]")
			if !ok {
				return nil, fmt.Errorf("no ] in %q", s)
			}
			if n, err := strconv.Atoi(key); err == nil {
				out = append(out, n)
			} else {
				out = append(out, key)
			}
			s = rest
			continue
		}
		end := strings.IndexAny(s, ".[")
		if end < 0 {
			end = len(s)
		}
		out, s = append(out, s[:end]), s[end:]
	}
	return out, nil
}

// edited is an object's JSON after edits; null takes a field away.
func edited(object []byte, edits []edit) (string, error) {
	var root any
	if err := json.Unmarshal(object, &root); err != nil {
		return "", err
	}
	for _, e := range edits {
		var v any
		if err := json.Unmarshal(e.value, &v); err != nil {
			return "", err
		}
		var err error
		if root, err = set(root, e.path, v); err != nil {
			return "", fmt.Errorf("%s: %w", e.text, err)
		}
	}
	b, err := json.Marshal(root)
	return string(b), err
}

func set(in any, path []any, v any) (any, error) {
	if len(path) == 0 {
		return v, nil
	}
	switch k := path[0].(type) {
	case string:
		m, ok := in.(map[string]any)
		if !ok && in != nil {
			return nil, fmt.Errorf("%v is no object", in)
		}
		if m == nil {
			m = map[string]any{}
		}
		if v == nil && len(path) == 1 {
			delete(m, k)
			return m, nil
		}
		inner, err := set(m[k], path[1:], v)
		m[k] = inner
		return m, err
	case int:
		l, ok := in.([]any)
		if !ok && in != nil || k > len(l) {
			return nil, fmt.Errorf("no place %d in %v", k, in)
		}
		if v == nil && len(path) == 1 && k < len(l) {
			return append(l[:k:k], l[k+1:]...), nil
		}
		if k == len(l) {
			l = append(l, nil)
		}
		inner, err := set(l[k], path[1:], v)
		l[k] = inner
		return l, err
	}
	return nil, fmt.Errorf("bad path")
}

// get finds a field.
func (e edit) get(in any) (any, bool) {
	for _, p := range e.path {
		switch k := p.(type) {
		case string:
			m, ok := in.(map[string]any)
			if !ok {
				return nil, false
			}
			in = m[k]
		case int:
			l, ok := in.([]any)
			if !ok || k >= len(l) {
				return nil, false
			}
			in = l[k]
		}
	}
	return in, true
}
