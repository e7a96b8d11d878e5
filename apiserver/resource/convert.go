package resource

import (
	"sagong/object"
)

// convertTogether is how many items lists and watches give to Convert.
const convertTogether = pageSize

// ConvertNext is Convert for readers of a list one by one, before item n.
func ConvertNext(items []Item, n int) error {
	if n%convertTogether != 0 {
		return nil
	}
	return Convert(items[n:min(n+convertTogether, len(items))])
}

// Convert decodes items of a kind whose versions a webhook converts, in as few
// calls as it takes many. It does nothing to items of other kinds, and to those
// that were decoded.
func Convert(items []Item) error {
	var at []int
	var values [][]byte
	var revisions []object.Revision
	for i, it := range items {
		if d := it.k.Dynamic; it.obj == nil && it.rec != nil && d != nil && d.Converts && d.DecodeAll != nil {
			at, values, revisions = append(at, i), append(values, it.rec.Value()), append(revisions, it.rev)
		}
	}
	if len(at) < 2 { // one is converted when it is read
		return nil
	}
	all, err := items[at[0]].k.DecodeAll(values, revisions)
	if err != nil {
		return err
	}
	for n, i := range at {
		items[i].obj = all[n]
	}
	return nil
}
