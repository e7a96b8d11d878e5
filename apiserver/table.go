package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/apiserver/resource"
	"sagong/object"
)

// table makes the rows kubectl prints. header leaves the column definitions out
// when false (all but the first table of a watch).
func table(a accepted, v *object.Version, l resource.List, now time.Time, header bool) (*metav1.Table, error) {
	if err := a.checkIncludeObject(); err != nil {
		return nil, err
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
		if f := v.Definition().RowConditions; f != nil {
			row.Conditions = f(o)
		}
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

func (a accepted) checkIncludeObject() error {
	switch metav1.IncludeObjectPolicy(a.includeObject) {
	case "", metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf("Unable to convert to Table as requested: includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", a.includeObject))
}

// sendTable sends a list, or one object, as a table.
func (q *request) sendTable(a accepted, code int, t resource.Target, l resource.List) error {
	now := time.Now()
	items, err := ordered(t.Definition, l.Items)
	if err != nil {
		return err
	}
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

// ordered has items in the order of a kind's rows.
func ordered(d *object.Definition, items []resource.Item) ([]resource.Item, error) {
	if d.RowOrder == nil || len(items) < 2 {
		return items, nil
	}
	type pair struct {
		o  object.Object
		it resource.Item
	}
	pairs := make([]pair, len(items))
	for i, it := range items {
		o, err := it.Shared()
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		pairs[i] = pair{o, it}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return d.RowOrder(a.o, b.o) })
	sorted := make([]resource.Item, len(pairs))
	for i, p := range pairs {
		sorted[i] = p.it
	}
	return sorted, nil
}

// shapeOther turns a Scale into a table or its metadata, when that was asked for.
func shapeOther(a accepted, t resource.Target, o runtime.Object) (runtime.Object, error) {
	s, ok := o.(*autoscalingv1.Scale)
	if !ok || a.as == asObject {
		return o, nil
	}
	meta := metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.GroupName + "/" + a.version}
	if a.as == asMetadata {
		if a.list {
			return nil, notAcceptableShape("you requested PartialObjectMetadataList, but the requested object is not a list (%s)", t, "")
		}
		return &metav1.PartialObjectMetadata{TypeMeta: meta, ObjectMeta: s.ObjectMeta}, nil
	}
	if err := a.checkIncludeObject(); err != nil {
		return nil, err
	}
	row := metav1.TableRow{Cells: []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), object.Age(s.CreationTimestamp, time.Now())}}
	var err error
	switch a.includeObject {
	case string(metav1.IncludeNone):
	case string(metav1.IncludeObject):
		row.Object.Raw, err = json.Marshal(s)
	default:
		row.Object.Raw, err = json.Marshal(&metav1.PartialObjectMetadata{TypeMeta: meta, ObjectMeta: s.ObjectMeta})
	}
	return &metav1.Table{
		TypeMeta:          metav1.TypeMeta{Kind: "Table", APIVersion: meta.APIVersion},
		ListMeta:          metav1.ListMeta{ResourceVersion: s.ResourceVersion},
		ColumnDefinitions: scaleColumns(t.Custom()),
		Rows:              []metav1.TableRow{row},
	}, err
}

func scaleColumns(custom bool) []metav1.TableColumnDefinition {
	doc := metav1.ObjectMeta{}.SwaggerDoc()
	columns := []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Description: doc["name"]},
		{Name: "Desired", Type: "integer", Description: autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"]},
		{Name: "Available", Type: "integer", Description: autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"]},
		{Name: "Age", Type: "string", Description: doc["creationTimestamp"]},
	}
	if custom {
		columns[0].Format, columns[3].Type = "name", "date"
		columns[1].Description, columns[2].Description = "Number of desired replicas", "Number of actual replicas"
	}
	return columns
}
