package apiserver

import (
	"encoding/json"
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
		return nil, apierrors.NewBadRequest(fmt.Sprintf("unrecognized includeObject value: %q", a.includeObject))
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
	tab, err := table(a, t.WireVersion(), l, time.Now(), true)
	if err != nil {
		return err
	}
	b, err := json.Marshal(tab)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	q.writeJSON(a, code, append(b, '\n'))
	return nil
}
