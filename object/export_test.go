package object

import "time"

// Track is the product's own way to managed fields; used says whether it took it.
func Track(m *FieldManagers, c *Codec, subresource string, old, obj Object, manager string) (used bool, err error) {
	return m.track(c, c.Storage(), subresource, old, obj, manager, time.Now()), nil
}

// ByLibrary is the library's.
func ByLibrary(m *FieldManagers, c *Codec, subresource string, old, obj Object, manager string) error {
	return m.byLibrary(c, c.Storage(), subresource, old, obj, manager)
}

// LongNumbers counts what boundQuantities must look at twice.
func LongNumbers(data []byte) int {
	_, places := longNumbers(data, JSON)
	return len(places)
}
