package apiserver

// requestStack is what a write needs of the stack, in bytes, and then some.
const requestStack = 24 << 10

// growStack has the goroutine's stack grown once, while there is little on it. A
// request's goroutine is new: one that grows as it goes, from 2 KB, has all its
// frames copied at each of four steps, which is a tenth of the processor time of
// a write. It is called with 0: what a function asks of the stack it asks at its
// entry, and nothing is cleared.
//
//go:noinline
func growStack(n int) byte {
	if n == 0 {
		return 0
	}
	var room [requestStack]byte
	return room[n]
}
