// Package fill sets fields that a client has left unset, which is what
// defaulting consists of.
package fill

// Ptr points *p at v if it is nil.
func Ptr[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

// Zero sets *p to v if it has its zero value.
func Zero[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
