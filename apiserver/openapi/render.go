package openapi

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// byPath groups routes, and says which parameters all of a path share. The lists
// are sorted, the routes' without those.
func byPath(routes []route) map[string][]route {
	all := map[string][]route{}
	for _, r := range routes {
		all[r.path] = append(all[r.path], r)
	}
	return all
}

// shared takes the parameters that all routes of a path have out of them. What is
// left and what is returned is sorted by name.
func shared(routes []route) []param {
	count := map[param]int{}
	for _, r := range routes {
		for _, p := range r.params {
			count[param{name: p.name, in: p.in}]++
		}
	}
	is := func(p param) bool { return count[param{name: p.name, in: p.in}] == len(routes) }
	var all []param
	for i, r := range routes {
		if i == 0 {
			all = slices.DeleteFunc(slices.Clone(r.params), func(p param) bool { return !is(p) })
		}
		routes[i].params = slices.DeleteFunc(slices.Clone(r.params), is)
		sortParams(routes[i].params)
	}
	sortParams(all)
	return all
}

func sortParams(all []param) {
	slices.SortFunc(all, func(a, b param) int { return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.in, b.in)) })
}

// schemaOf refers to a model.
func schemaOf(model string) *spec.Schema {
	if model == text {
		return spec.StringProperty()
	}
	return spec.RefSchema(refPrefix + model)
}

func (r route) extensions() spec.Extensions {
	if r.action == "" {
		return nil
	}
	return spec.Extensions{"x-kubernetes-action": r.action, kindsKey: kindsExtension(r.gvk)[0]}
}

// codes are those of answers that carry the model, with their texts.
func (r route) codes() map[int]string {
	all := map[int]string{200: "OK"}
	if r.created {
		all[201] = "Created"
	}
	if r.accepted {
		all[202] = "Accepted"
	}
	return all
}

// pathsV3 describes routes to clients of OpenAPI v3.
func pathsV3(routes []route) map[string]*spec3.Path {
	all := map[string]*spec3.Path{}
	for path, routes := range byPath(routes) {
		item := &spec3.Path{}
		item.Parameters = paramsV3(shared(routes))
		for _, r := range routes {
			*map[string]**spec3.Operation{
				"get": &item.Get, "put": &item.Put, "post": &item.Post, "delete": &item.Delete, "options": &item.Options, "head": &item.Head, "patch": &item.Patch,
			}[r.method] = r.v3()
		}
		all[path] = item
	}
	return all
}

func paramsV3(params []param) []*spec3.Parameter {
	all := make([]*spec3.Parameter, len(params))
	for i, p := range params {
		s := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{p.kind}, UniqueItems: true}}
		all[i] = &spec3.Parameter{ParameterProps: spec3.ParameterProps{Name: p.name, In: p.in, Description: p.about, Required: p.in == "path", Schema: s}}
	}
	return all
}

func contentV3(model string, types []string) map[string]*spec3.MediaType {
	all := make(map[string]*spec3.MediaType, len(types))
	for _, t := range types {
		all[t] = &spec3.MediaType{MediaTypeProps: spec3.MediaTypeProps{Schema: schemaOf(model)}}
	}
	return all
}

func (r route) v3() *spec3.Operation {
	op := &spec3.Operation{}
	op.OperationId, op.Tags, op.Description, op.Extensions = r.id, []string{r.tag}, r.about, r.extensions()
	op.Parameters = paramsV3(r.params)
	if r.body != "" {
		op.RequestBody = &spec3.RequestBody{RequestBodyProps: spec3.RequestBodyProps{Content: contentV3(r.body, r.consumes), Required: !r.optional}}
	}
	op.Responses = &spec3.Responses{}
	op.Responses.StatusCodeResponses = map[int]*spec3.Response{401: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}}
	for code, about := range r.codes() {
		op.Responses.StatusCodeResponses[code] = &spec3.Response{ResponseProps: spec3.ResponseProps{Description: about, Content: contentV3(r.answer, r.produces)}}
	}
	return op
}

// pathsV2 describes routes to clients of OpenAPI v2, as JSON. Parameters that are
// not of one kind only are put into a table, by names made of what they say.
func pathsV2(routes []route) (paths, params map[string]json.RawMessage, err error) {
	paths = map[string]json.RawMessage{}
	table := sharedParams{map[string]json.RawMessage{}, map[param]string{}}
	for path, routes := range byPath(routes) {
		item := &spec.PathItem{}
		if item.Parameters, err = table.params(shared(routes)); err != nil {
			return nil, nil, err
		}
		for _, r := range routes {
			op, err := r.v2(table)
			if err != nil {
				return nil, nil, err
			}
			*map[string]**spec.Operation{
				"get": &item.Get, "put": &item.Put, "post": &item.Post, "delete": &item.Delete, "options": &item.Options, "head": &item.Head, "patch": &item.Patch,
			}[r.method] = op
		}
		if paths[path], err = json.Marshal(item); err != nil {
			return nil, nil, fmt.Errorf("cannot describe %s: %w", path, err)
		}
	}
	return paths, table.docs, nil
}

// sharedParams is a table of parameters as JSON.
type sharedParams struct {
	docs  map[string]json.RawMessage // by name
	names map[param]string
}

// refer puts a parameter into the table, if its name is not known, and returns what
// stands for it.
func (t sharedParams) refer(p param, full spec.Parameter) (spec.Parameter, error) {
	name := t.names[p]
	if name == "" {
		doc, err := json.Marshal(&full)
		if err != nil {
			return full, fmt.Errorf("cannot encode parameter %s: %w", p.name, err)
		}
		h := fnv.New64()
		_, _ = h.Write(doc)
		name = p.name + "-" + base64.URLEncoding.EncodeToString(h.Sum(nil)[:6])
		t.docs[name], t.names[p] = doc, name
	}
	return spec.Parameter{Refable: spec.Refable{Ref: spec.MustCreateRef("#/parameters/" + name)}}, nil
}

func (t sharedParams) params(params []param) ([]spec.Parameter, error) {
	all := make([]spec.Parameter, len(params))
	for i, p := range params {
		all[i] = spec.Parameter{
			ParamProps:   spec.ParamProps{Name: p.name, In: p.in, Description: p.about, Required: p.in == "path"},
			SimpleSchema: spec.SimpleSchema{Type: p.kind}, CommonValidations: spec.CommonValidations{UniqueItems: true},
		}
		// Older kubectls look for dryRun and fieldValidation in the operations.
		if p.name == "name" || p.in == "query" && (p.name == "dryRun" || p.name == "fieldValidation") {
			continue
		}
		var err error
		if all[i], err = t.refer(p, all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// refV2 is where definitions lie in v2.
const refV2 = "#/definitions/"

func (r route) v2(table sharedParams) (*spec.Operation, error) {
	op := &spec.Operation{}
	op.ID, op.Tags, op.Description, op.Extensions = r.id, []string{r.tag}, r.about, r.extensions()
	op.Consumes, op.Produces, op.Schemes = r.consumes, r.produces, []string{"https"}
	var err error
	if op.Parameters, err = table.params(r.params); err != nil {
		return nil, err
	}
	if r.body != "" {
		p := spec.Parameter{ParamProps: spec.ParamProps{Name: "body", In: "body", Required: !r.optional, Schema: spec.RefSchema(refV2 + r.body)}}
		if strings.HasPrefix(r.body, "io.k8s.apimachinery") {
			if p, err = table.refer(param{"body", "body", r.body, strconv.FormatBool(r.optional)}, p); err != nil {
				return nil, err
			}
		}
		at := slices.IndexFunc(r.params, func(q param) bool { return q.name > "body" })
		if at < 0 {
			at = len(op.Parameters)
		}
		op.Parameters = slices.Insert(op.Parameters, at, p)
	}
	op.Responses = &spec.Responses{}
	op.Responses.StatusCodeResponses = map[int]spec.Response{401: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}}}
	for code, about := range r.codes() {
		s := schemaOf(r.answer)
		if r.answer != text {
			s = spec.RefSchema(refV2 + r.answer)
		}
		op.Responses.StatusCodeResponses[code] = spec.Response{ResponseProps: spec.ResponseProps{Description: about, Schema: s}}
	}
	return op, nil
}
