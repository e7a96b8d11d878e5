package store

// tagIndex finds the items of one topic by the tag of their newest version. It
// is made by the first list that asks for a tag of the topic and kept from then
// on: with ten thousand nodes that each list their own pods, the cost of a list
// is its result and not the collection. The index's lock guards it.
type tagIndex struct {
	of map[*item]string
	by map[string]map[*item]struct{}
}

// set notes the tag of an item, "" for none.
func (t *tagIndex) set(it *item, tag string) {
	old := t.of[it]
	if old == tag {
		return
	}
	if old != "" {
		items := t.by[old]
		if delete(items, it); len(items) == 0 {
			delete(t.by, old)
		}
		delete(t.of, it)
	}
	if tag != "" {
		items := t.by[tag]
		if items == nil {
			items = map[*item]struct{}{}
			t.by[tag] = items
		}
		items[it] = struct{}{}
		t.of[it] = tag
	}
}

// retagLocked keeps the tag index of the item's topic, if there is one, up to
// date with a newly published version.
func (x *index) retagLocked(it *item, rec *Record) {
	if len(x.tagged) == 0 {
		return
	}
	t := x.tagged[it.key[:x.topic(it.key)]]
	if t == nil {
		return
	}
	if rec.deleted {
		t.set(it, "")
	} else {
		t.set(it, x.tag(rec))
	}
}

// withTagLocked returns the items of a topic whose newest version has the tag.
func (x *index) withTagLocked(topic, tag string) []*item {
	t := x.tagged[topic]
	if t == nil {
		t = &tagIndex{of: map[*item]string{}, by: map[string]map[*item]struct{}{}}
		x.live.Ascend(&item{key: topic}, func(it *item) bool {
			if x.topic(it.key) != len(topic) || it.key[:len(topic)] != topic {
				return false
			}
			if r := it.head.Load(); r != nil && !r.deleted {
				t.set(it, x.tag(r))
			}
			return true
		})
		x.tagged[topic] = t
	}
	items := make([]*item, 0, len(t.by[tag]))
	for it := range t.by[tag] {
		items = append(items, it)
	}
	return items
}
