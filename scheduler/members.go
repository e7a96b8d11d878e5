package scheduler

// members is pods of one class in the order they came, a list with holes.
type members struct {
	pods []*queued
	from int // none before this
	live int
}

// first is the one that has been in the list longest. There must be one.
func (m *members) first() *queued {
	for m.pods[m.from] == nil {
		m.from++
	}
	return m.pods[m.from]
}

func addMember(lists map[string]*members, x *queued) {
	m := lists[x.class]
	if m == nil {
		m = &members{}
		lists[x.class] = m
	}
	if m.from > 1024 && m.from > len(m.pods)/2 {
		m.pods = append([]*queued(nil), m.pods[m.from:]...)
		m.from = 0
		for i, o := range m.pods {
			if o != nil {
				o.member = i
			}
		}
	}
	x.member = len(m.pods)
	m.pods = append(m.pods, x)
	m.live++
}

func dropMember(lists map[string]*members, x *queued) {
	m := lists[x.class]
	m.pods[x.member] = nil
	if m.live--; m.live == 0 {
		delete(lists, x.class)
	}
}
