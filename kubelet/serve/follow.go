package serve

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// follower tells readers of logs when there is more. All share one inotify
// instance, which exists only while somebody follows: the kernel allows few.
type follower struct {
	mu      sync.Mutex
	watcher *fsnotify.Watcher
	readers map[string]map[chan struct{}]bool // by directory
	done    chan struct{}
}

// watch signals on the channel when something in the directory of path
// changes. stop must be called.
func (f *follower) watch(path string) (news <-chan struct{}, stop func(), err error) {
	dir := filepath.Dir(path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watcher == nil {
		w, err := fsnotify.NewBufferedWatcher(1024)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot follow the log: %w", err)
		}
		f.watcher, f.readers, f.done = w, map[string]map[chan struct{}]bool{}, make(chan struct{})
		go f.run(w, f.done)
	}
	if f.readers[dir] == nil {
		if err := f.watcher.Add(dir); err != nil {
			f.release()
			return nil, nil, fmt.Errorf("cannot follow the log: %w", err)
		}
		f.readers[dir] = map[chan struct{}]bool{}
	}
	ch := make(chan struct{}, 1)
	f.readers[dir][ch] = true
	return ch, func() {
		f.mu.Lock()
		delete(f.readers[dir], ch)
		if len(f.readers[dir]) == 0 {
			delete(f.readers, dir)
			f.watcher.Remove(dir)
		}
		done := f.done
		released := f.release()
		f.mu.Unlock()
		if released {
			<-done
		}
	}, nil
}

// release closes the watcher when nobody follows. mu is held.
func (f *follower) release() bool {
	if len(f.readers) > 0 || f.watcher == nil {
		return false
	}
	f.watcher.Close()
	f.watcher = nil
	return true
}

func (f *follower) run(w *fsnotify.Watcher, done chan struct{}) {
	defer close(done)
	signal := func(dir string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for d, all := range f.readers {
			if dir != "" && d != dir {
				continue
			}
			for ch := range all {
				select {
				case ch <- struct{}{}:
				default:
				}
			}
		}
	}
	for {
		select {
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			signal(filepath.Dir(e.Name))
		case _, ok := <-w.Errors:
			if !ok {
				return
			}
			signal("") // events may have been lost: let everybody look
		}
	}
}
