package reconcile

// EndAge has a view let go of what has not changed since it was called last.
func (v *View[T]) EndAge() { v.letGo() }

// Held is how many objects a view holds itself.
func (v *View[T]) Held() (n int) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, s := range v.items {
		if s.kept == nil || s.age != 0 {
			n++
		}
	}
	return n
}
