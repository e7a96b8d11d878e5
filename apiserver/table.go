package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/apiserver/resource"
	"sagong/object"
)

// table makes the rows kubectl prints. header leaves the column definitions out
// when false (all but the first table of a watch).
func table(a accepted, v *object.Version, l resource.List, now time.Time, header bool) (*metav1.Table, error) {
	switch a.includeObject {
	case "", string(metav1.IncludeNone), string(metav1.IncludeMetadata), string(metav1.IncludeObject):
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("Unable to convert to Table as requested: includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", a.includeObject))
	}
	columns := v.Columns
	if columns == nil {
		columns = object.DefaultColumns()
	}
	out := &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: metav1.GroupName + "/" + a.version},
		ListMeta: listMeta(l),
		Rows:     make([]metav1.TableRow, 0, len(l.Items)),
	}
	if header {
		out.ColumnDefinitions = make([]metav1.TableColumnDefinition, len(columns))
		for i, c := range columns {
			out.ColumnDefinitions[i] = metav1.TableColumnDefinition{
				Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description, Priority: c.Priority,
			}
		}
	}
	for _, it := range l.Items {
		o, err := it.Shared()
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		row := metav1.TableRow{Cells: make([]any, len(columns))}
		for i, c := range columns {
			row.Cells[i] = c.Cell(o, now)
		}
		switch a.includeObject {
		case string(metav1.IncludeNone):
		case string(metav1.IncludeObject):
			bare, err := it.JSON(v)
			if err != nil {
				return nil, apierrors.NewInternalError(err)
			}
			row.Object = runtime.RawExtension{Raw: v.WholeJSON(nil, bare)}
		default:
			b, err := partialJSON(it, a.version)
			if err != nil {
				return nil, err
			}
			row.Object = runtime.RawExtension{Raw: b}
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

// sendTable sends a list, or one object, as a table.
func (q *request) sendTable(a accepted, code int, t resource.Target, l resource.List) error {
	now := time.Now()
	items := l.Items
	l.Items = nil
	head, err := table(a, t.WireVersion(), l, now, true)
	if err != nil {
		return err
	}
	b, err := json.Marshal(head)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	b, ok := bytes.CutSuffix(b, []byte("]}")) // of no rows
	if !ok {
		return apierrors.NewInternalError(errors.New("a table does not end in rows"))
	}
	return q.sendItems(a, code, b, items, func(it resource.Item) ([]byte, error) {
		one, err := table(a, t.WireVersion(), resource.List{Items: []resource.Item{it}}, now, false)
		if err != nil {
			return nil, err
		}
		return json.Marshal(&one.Rows[0])
	})
}
