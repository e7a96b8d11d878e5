package scheduler

// byPriority is a heap: higher priority first, then the older.
type byPriority []*queued

func (h byPriority) Len() int { return len(h) }
func (h byPriority) Less(i, j int) bool {
	if h[i].priority != h[j].priority {
		return h[i].priority > h[j].priority
	}
	return h[i].since.Before(h[j].since)
}
func (h byPriority) Swap(i, j int) { swapQueued(h, i, j) }
func (h *byPriority) Push(x any)   { *h = pushQueued(*h, x) }
func (h *byPriority) Pop() (x any) { *h, x = popQueued(*h); return x }

// byTime is a heap: those tried again soonest first.
type byTime []*queued

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h byTime) Swap(i, j int)      { swapQueued(h, i, j) }
func (h *byTime) Push(x any)        { *h = pushQueued(*h, x) }
func (h *byTime) Pop() (x any)      { *h, x = popQueued(*h); return x }

func swapQueued(h []*queued, i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func pushQueued(h []*queued, x any) []*queued {
	q := x.(*queued)
	q.index = len(h)
	return append(h, q)
}

func popQueued(h []*queued) ([]*queued, any) {
	last := h[len(h)-1]
	h[len(h)-1] = nil
	return h[:len(h)-1], last
}
