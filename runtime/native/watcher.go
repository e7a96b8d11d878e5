package native

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// watcher learns of ends: of containers by notices of their shims on one
// datagram socket, of shims by one epoll of their pidfds. Neither needs a
// goroutine for each pod.
type watcher struct {
	sock   *net.UnixConn
	path   string
	runDir *os.File
	epoll  *os.File

	mu    sync.Mutex
	shims map[int32]string // pidfd to sandbox
}

func newWatcher(runDir string) (*watcher, error) {
	dir, err := os.Open(runDir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(runDir, "events.sock")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		dir.Close()
		return nil, err
	}
	// By descriptor, because socket paths are limited to 108 bytes.
	sock, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/events.sock", Net: "unixgram"})
	if err != nil {
		dir.Close()
		return nil, err
	}
	// Best effort: shims try again when the queue is full.
	_ = sock.SetReadBuffer(1 << 20)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(ep, true)
	}
	if err != nil {
		sock.Close()
		dir.Close()
		return nil, err
	}
	return &watcher{sock: sock, path: path, runDir: dir, epoll: os.NewFile(uintptr(ep), "epoll"), shims: map[int32]string{}}, nil
}

// add watches a shim; the descriptor is the watcher's from here on.
func (w *watcher) add(pidfd int, uid string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shims[int32(pidfd)] = uid
	conn, err := w.epoll.SyscallConn()
	if err != nil {
		return err
	}
	var cerr error
	if err := conn.Control(func(ep uintptr) {
		cerr = unix.EpollCtl(int(ep), unix.EPOLL_CTL_ADD, pidfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(pidfd)})
	}); err != nil {
		return err
	}
	return cerr
}

// exits calls f for every shim that ends, until close.
func (w *watcher) exits(f func(uid string)) {
	conn, err := w.epoll.SyscallConn()
	if err != nil {
		return
	}
	var evs [64]unix.EpollEvent
	for {
		n := 0
		err := conn.Read(func(ep uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(ep), evs[:], 0)
			return n > 0 || (err != nil && err != unix.EINTR)
		})
		if err != nil || n < 0 {
			return
		}
		for _, e := range evs[:n] {
			// Reaps it when it is this process's child.
			var si unix.Siginfo
			_ = unix.Waitid(unix.P_PIDFD, int(e.Fd), &si, unix.WEXITED|unix.WNOHANG, nil)
			w.mu.Lock()
			uid := w.shims[e.Fd]
			delete(w.shims, e.Fd)
			unix.Close(int(e.Fd))
			w.mu.Unlock()
			f(uid)
		}
	}
}

// notices calls f for every container that a shim says has ended, until close.
func (w *watcher) notices(f func(uid, id string)) {
	buf := make([]byte, 512)
	for {
		n, err := w.sock.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if uid, id, ok := parseNotice(string(buf[:n])); ok {
			f(uid, id)
		}
	}
}

func parseNotice(s string) (uid, id string, ok bool) {
	f := strings.Split(s, " ")
	if len(f) != 3 || f[0] != "exit" || checkID("", f[1]) != nil || checkID("", f[2]) != nil {
		return "", "", false
	}
	return f[1], f[2], true
}

// close ends exits and notices.
func (w *watcher) close() {
	os.Remove(w.path)
	w.sock.Close()
	w.epoll.Close()
}

// release frees the rest, once they have ended.
func (w *watcher) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for fd := range w.shims {
		unix.Close(int(fd))
	}
	w.shims = nil
	w.runDir.Close()
}

// eventQueue hands events to one reader in order without bound.
type eventQueue struct {
	out  chan runtime.Event
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	queue []runtime.Event
	wake  chan struct{}
}

func newEventQueue() *eventQueue {
	q := &eventQueue{out: make(chan runtime.Event, 64), stop: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1)}
	go q.run()
	return q
}

func (q *eventQueue) add(e runtime.Event) {
	q.mu.Lock()
	q.queue = append(q.queue, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) run() {
	defer close(q.done)
	defer close(q.out)
	for {
		q.mu.Lock()
		batch := q.queue
		q.queue = nil
		q.mu.Unlock()
		for _, e := range batch {
			select {
			case q.out <- e:
			case <-q.stop:
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-q.wake:
		case <-q.stop:
			return
		}
	}
}

func (q *eventQueue) close() {
	close(q.stop)
	<-q.done
}
