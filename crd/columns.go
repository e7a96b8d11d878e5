package crd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/jsonpath"

	"sagong/object"
)

// columns are the printed columns of a version: its name and those the definition
// lists, or its age when there are none.
func (r *revision) columns() []object.Column {
	standard := object.CustomColumns()
	if len(r.spec.AdditionalPrinterColumns) == 0 {
		return standard
	}
	out := standard[:1:1]
	for i := range r.spec.AdditionalPrinterColumns {
		c := &r.spec.AdditionalPrinterColumns[i]
		description := c.Description
		if description == "" {
			description = fmt.Sprintf("Custom resource definition column (in JSONPath format): %s", c.JSONPath)
		}
		out = append(out, object.Column{
			Name: c.Name, Type: c.Type, Format: c.Format, Description: description, Priority: c.Priority, Cell: cell(c),
		})
	}
	return out
}

// cell makes the function that finds a column's value. The path is parsed when
// the first table is asked for. One that cannot be parsed shows nothing.
func cell(c *apiextensionsv1.CustomResourceColumnDefinition) func(object.Object, time.Time) any {
	type column struct {
		sync.Mutex // a path with ranges keeps state while it is evaluated
		path       *jsonpath.JSONPath
	}
	parsed := sync.OnceValue(func() *column {
		p := jsonpath.New(c.Name).AllowMissingKeys(true)
		if p.Parse("{"+c.JSONPath+"}") != nil {
			return nil
		}
		return &column{path: p}
	})
	return func(o object.Object, now time.Time) any {
		col := parsed()
		if col == nil {
			return nil
		}
		col.Lock()
		defer col.Unlock()
		found, err := col.path.FindResults(content(o))
		if err != nil || len(found) == 0 || len(found[0]) == 0 {
			return nil
		}
		value := found[0][0].Interface()
		if c.Type != "string" {
			return cellValue(c.Type, value, now)
		}
		var text bytes.Buffer
		if col.path.PrintResults(&text, []reflect.Value{reflect.ValueOf(value)}) != nil {
			return nil
		}
		return text.String()
	}
}

// cellValue is a value as a column of that type shows it; nil when it does not fit.
func cellValue(kind string, value any, now time.Time) any {
	switch v := value.(type) {
	case int64:
		switch kind {
		case "integer":
			return v
		case "number":
			return float64(v)
		}
	case float64:
		switch kind {
		case "integer":
			return int64(v)
		case "number":
			return v
		}
	case json.Number:
		if n, err := v.Int64(); kind == "integer" && err == nil {
			return n
		}
		if f, err := v.Float64(); kind == "number" && err == nil {
			return f
		}
	case bool:
		if kind == "boolean" {
			return v
		}
	case string:
		if kind == "date" {
			var at metav1.Time
			if at.UnmarshalQueryParameter(v) != nil {
				return "<invalid>"
			}
			return object.Age(at, now)
		}
	}
	return nil
}
