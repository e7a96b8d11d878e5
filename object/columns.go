package object

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

var metaDoc = metav1.ObjectMeta{}.SwaggerDoc()

// NameColumn prints metadata.name; every table begins with it.
func NameColumn[T Object]() TypedColumn[T] {
	return NameColumnOf(T.GetName)
}

// NameColumnOf prints metadata.name with what marks some objects.
func NameColumnOf[T Object](cell func(T) string) TypedColumn[T] {
	c := StringColumn("Name", metaDoc["name"], cell)
	c.Format = "name"
	return c
}

// AgeColumn prints how long ago the object was created, such as "5m".
func AgeColumn[T Object]() TypedColumn[T] {
	return TypedColumn[T]{
		Name: "Age", Type: "string", Description: metaDoc["creationTimestamp"],
		Cell: func(o T, now time.Time) any { return Age(o.GetCreationTimestamp(), now) },
	}
}

// CreatedAtColumn prints the time of creation, for kinds upstream has no
// printer for.
func CreatedAtColumn[T Object]() TypedColumn[T] {
	return TypedColumn[T]{
		Name: "Created At", Type: "date", Description: metaDoc["creationTimestamp"],
		Cell: func(o T, _ time.Time) any { return o.GetCreationTimestamp().UTC().Format(time.RFC3339) },
	}
}

// StringColumn prints a text.
func StringColumn[T Object](name, description string, cell func(T) string) TypedColumn[T] {
	return TypedColumn[T]{
		Name: name, Type: "string", Description: description,
		Cell: func(o T, _ time.Time) any { return cell(o) },
	}
}

// TimeColumn prints a text that depends on the current time.
func TimeColumn[T Object](name, description string, cell func(o T, now time.Time) string) TypedColumn[T] {
	return TypedColumn[T]{
		Name: name, Type: "string", Description: description,
		Cell: func(o T, now time.Time) any { return cell(o, now) },
	}
}

// IntColumn prints a number.
func IntColumn[T Object](name, description string, cell func(T) int64) TypedColumn[T] {
	return TypedColumn[T]{
		Name: name, Type: "integer", Description: description,
		Cell: func(o T, _ time.Time) any { return cell(o) },
	}
}

// BoolColumn prints true or false.
func BoolColumn[T Object](name, description string, cell func(T) bool) TypedColumn[T] {
	return TypedColumn[T]{
		Name: name, Type: "boolean", Description: description,
		Cell: func(o T, _ time.Time) any { return cell(o) },
	}
}

// Text returns the column as upstream declares some numbers and truths: of type
// string. Its cells stay what they are.
func (c TypedColumn[T]) Text() TypedColumn[T] {
	c.Type = "string"
	return c
}

// Wide returns the column as one shown with -o wide only.
func (c TypedColumn[T]) Wide() TypedColumn[T] {
	c.Priority = 1
	return c
}

// Age is the time from t to now as tables show it: "<unknown>" when t is unset.
func Age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// DefaultColumns are those of a kind that defines none: its name and when it was
// created.
func DefaultColumns() []Column {
	return Kind[Object]{Columns: []TypedColumn[Object]{NameColumn[Object](), CreatedAtColumn[Object]()}}.columns()
}

// CustomColumns are those of a custom resource whose definition lists none: its
// name and age.
func CustomColumns() []Column {
	age := AgeColumn[Object]()
	age.Type = "date"
	return Kind[Object]{Columns: []TypedColumn[Object]{NameColumn[Object](), age}}.columns()
}
