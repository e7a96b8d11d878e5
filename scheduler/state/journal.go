package state

// journal lists the slots of the nodes that changed, in order, so that what is
// worked out from nodes can be brought up to date by looking at those alone.
type journal struct {
	touched []int32
	base    int // entries cut off the front
}

// kept is how many entries the journal holds at most.
const kept = 1 << 16

func (j *journal) touch(n *Node) {
	j.touched = append(j.touched, int32(n.Slot))
	j.trim()
}

func (j *journal) trim() {
	if len(j.touched) > kept {
		cut := len(j.touched) - kept/2
		j.base += cut
		j.touched = append(j.touched[:0:0], j.touched[cut:]...)
	}
}

// Now is the mark of the present, for a later Since.
func (j *journal) Now() int { return j.base + len(j.touched) }

// Since returns the slots touched after a mark, some repeatedly; false when the
// journal does not reach back so far.
func (j *journal) Since(mark int) ([]int32, bool) {
	if mark < j.base {
		return nil, false
	}
	return j.touched[mark-j.base:], true
}
