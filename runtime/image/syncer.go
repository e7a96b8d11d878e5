package image

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// syncer makes everything written to a filesystem durable, with one system
// call for all who wait: thousands of small files are synced much faster
// together than one by one.
type syncer struct {
	mu      sync.Mutex
	running bool
	next    *syncRound
}

// syncRound is one call and those who wait for it.
type syncRound struct {
	done chan none
	err  error
}

// sync returns when all that was written before the call is durable.
func (y *syncer) sync(dir string) error {
	y.mu.Lock()
	if y.next == nil {
		y.next = &syncRound{done: make(chan none)}
	}
	mine := y.next
	if y.running {
		// The call under way may have passed over what we wrote; whoever runs
		// it does the next one for all who came meanwhile.
		y.mu.Unlock()
		<-mine.done
		return mine.err
	}
	y.running = true
	for y.next != nil {
		r := y.next
		y.next = nil
		y.mu.Unlock()
		r.err = syncFilesystem(dir)
		close(r.done)
		y.mu.Lock()
	}
	y.running = false
	y.mu.Unlock()
	return mine.err
}

// syncFilesystem syncs the filesystem that holds dir.
func syncFilesystem(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
