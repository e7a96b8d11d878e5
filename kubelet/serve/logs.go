package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// LogOptions choose a part of a container's log.
type LogOptions struct {
	Follow, Previous, Timestamps bool
	// Since leaves out what is older; zero is everything.
	Since time.Time
	// Tail is how many lines from the end, LimitBytes how many bytes; negative
	// is everything.
	Tail, LimitBytes int64
	// Stdout and Stderr choose streams.
	Stdout, Stderr bool
}

// parseLogOptions reads the query of a request for logs.
func parseLogOptions(q url.Values, now time.Time) (LogOptions, error) {
	o := LogOptions{Tail: -1, LimitBytes: -1, Stdout: true, Stderr: true}
	flag := func(name string) (bool, error) {
		v := q.Get(name)
		if _, ok := q[name]; ok && v == "" {
			return true, nil
		}
		if v == "" {
			return false, nil
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			return false, apierrors.NewBadRequest(fmt.Sprintf("%s: invalid value %q", name, v))
		}
		return b, nil
	}
	number := func(name string, to *int64, least int64) error {
		v := q.Get(name)
		if v == "" {
			return nil
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < least {
			return apierrors.NewBadRequest(fmt.Sprintf("%s: invalid value %q, must be at least %d", name, v, least))
		}
		*to = n
		return nil
	}
	var err error
	if o.Follow, err = flag("follow"); err != nil {
		return o, err
	}
	if o.Previous, err = flag("previous"); err != nil {
		return o, err
	}
	if o.Timestamps, err = flag("timestamps"); err != nil {
		return o, err
	}
	if v := q.Get("tailLines"); v != "all" {
		if err := number("tailLines", &o.Tail, 0); err != nil {
			return o, err
		}
	}
	if err := number("limitBytes", &o.LimitBytes, 1); err != nil {
		return o, err
	}
	var seconds int64
	if err := number("sinceSeconds", &seconds, 1); err != nil {
		return o, err
	}
	if seconds > 0 {
		o.Since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		if seconds > 0 {
			return o, apierrors.NewBadRequest("at most one of sinceTime or sinceSeconds may be specified")
		}
		if o.Since, err = time.Parse(time.RFC3339, v); err != nil {
			return o, apierrors.NewBadRequest(fmt.Sprintf("sinceTime: invalid value %q", v))
		}
	}
	switch v := q.Get("stream"); v {
	case "", "All":
	case "Stdout":
		o.Stderr = false
	case "Stderr":
		o.Stdout = false
	default:
		return o, apierrors.NewBadRequest(fmt.Sprintf("stream: unsupported value %q", v))
	}
	if !(o.Stdout && o.Stderr) && o.Tail >= 0 {
		return o, apierrors.NewBadRequest("tailLines must not be used with a single stream")
	}
	return o, nil
}

func (h *Handler) logs(w http.ResponseWriter, r *http.Request) {
	p, err := h.find(r)
	if err != nil {
		fail(w, err)
		return
	}
	o, err := parseLogOptions(r.URL.Query(), time.Now())
	if err != nil {
		fail(w, err)
		return
	}
	c, err := h.Node.Container(p, r.PathValue("container"), o.Previous)
	if err != nil {
		fail(w, err)
		return
	}
	var ended <-chan struct{}
	if o.Follow && c.Running {
		ended = h.Node.Ended(c.ID)
	}
	if wsstream.IsWebSocketRequest(r) {
		h.logSocket(w, r, c.LogPath, o, ended)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &flushing{w: w}
	if f, ok := w.(http.Flusher); ok && o.Follow {
		out.f = f
		w.WriteHeader(http.StatusOK)
		f.Flush()
	}
	if err := h.copyLog(r.Context(), out, c.LogPath, o, ended); err != nil && r.Context().Err() == nil {
		if !out.wrote && !o.Follow {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		h.Log.Debug("log stream ended", "err", err)
	}
}

// logSocket sends a log as messages over a WebSocket.
func (h *Handler) logSocket(w http.ResponseWriter, r *http.Request, path string, o LogOptions, ended <-chan struct{}) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out, in := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.CloseWithError(h.copyLog(ctx, &flushing{w: in}, path, o, ended))
	}()
	s := wsstream.NewReader(out, true, wsstream.NewDefaultReaderProtocols())
	s.SetIdleTimeout(h.StreamIdle)
	if err := s.Copy(w, r); err != nil {
		h.Log.Debug("log stream ended", "err", err)
	}
	cancel()
	out.Close()
	<-done
}

// flushing sends on what was written at once, when it is told to.
type flushing struct {
	w     io.Writer
	f     http.Flusher
	wrote bool
}

// Write passes on.
func (f *flushing) Write(p []byte) (int, error) {
	f.wrote = f.wrote || len(p) > 0
	n, err := f.w.Write(p)
	return n, err
}

func (f *flushing) flush() {
	if f.f != nil {
		f.f.Flush()
	}
}

// errLimit ends a stream whose byte limit is reached.
var errLimit = errors.New("limit reached")

// copyLog writes a log in the CRI format as its readers want it. With ended it
// follows the log until that is closed and everything is read.
func (h *Handler) copyLog(ctx context.Context, w *flushing, path string, o LogOptions, ended <-chan struct{}) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && ended == nil {
		return nil // it has not written anything
	}
	if err != nil {
		return fmt.Errorf("failed to try resolving symlinks in path %q: %w", path, err)
	}
	defer func() { f.Close() }()
	var news <-chan struct{}
	if ended != nil {
		var stop func()
		if news, stop, err = h.follow.watch(path); err != nil {
			return err
		}
		defer stop()
	}
	if o.Tail >= 0 {
		at, err := tailOffset(f, o.Tail)
		if err != nil {
			return fmt.Errorf("cannot find the end of the log: %w", err)
		}
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return fmt.Errorf("cannot find the end of the log: %w", err)
		}
	}
	lw := &logWriter{w: w, o: o, left: o.LimitBytes}
	rd := bufio.NewReaderSize(f, 64<<10)
	var part []byte // a line whose end is not written yet
	last, drained := false, false
	for {
		line, err := rd.ReadSlice('\n')
		switch {
		case err == nil:
			if len(part) > 0 {
				line = append(part, line...)
				part = nil
			}
			if werr := lw.line(line); werr != nil {
				w.flush()
				if errors.Is(werr, errLimit) {
					return nil
				}
				return werr
			}
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			part = append(part, line...)
			continue
		case !errors.Is(err, io.EOF):
			return fmt.Errorf("cannot read the log: %w", err)
		}
		part = append(part, line...)
		w.flush()
		if ended == nil {
			return nil
		}
		if moved(f, path) {
			if !drained {
				drained = true // something may have been written since the end was seen
				continue
			}
			fresh, err := os.Open(path)
			if err == nil {
				f.Close()
				f, part, drained = fresh, nil, false
				rd.Reset(f)
				continue
			}
		}
		if last {
			return nil
		}
		select {
		case <-news:
		case <-ended:
			last = true // once more, for what it wrote before it ended
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// moved says that the file at a path is not the one that is open.
func moved(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && !os.SameFile(a, b)
}

// logWriter takes lines of a log apart.
type logWriter struct {
	w       io.Writer
	o       LogOptions
	left    int64 // bytes that may still be written; negative: any number
	partial bool  // the line before this one goes on
	skip    bool  // and is left out
	buf     []byte
}

// line handles one line of the file: time, stream, tag, text.
func (l *logWriter) line(b []byte) error {
	stamp, rest, ok := bytes.Cut(b, []byte(" "))
	if !ok {
		return nil
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return nil
	}
	tag, text, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return nil
	}
	switch string(stream) {
	case "stdout":
		if !l.o.Stdout {
			return nil
		}
	case "stderr":
		if !l.o.Stderr {
			return nil
		}
	default:
		return nil
	}
	goesOn := len(tag) > 0 && tag[0] == 'P'
	if !l.o.Since.IsZero() {
		at, err := time.Parse(time.RFC3339Nano, string(stamp))
		if err == nil && at.Before(l.o.Since) {
			return nil
		}
	}
	l.buf = l.buf[:0]
	if l.o.Timestamps && !l.partial {
		l.buf = append(append(l.buf, stamp...), ' ')
	}
	if goesOn {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	l.partial = goesOn
	l.buf = append(l.buf, text...)
	out := l.buf
	if l.left >= 0 && int64(len(out)) > l.left {
		out = out[:l.left]
	}
	if _, err := l.w.Write(out); err != nil {
		return err
	}
	if l.left >= 0 {
		if l.left -= int64(len(out)); l.left == 0 {
			return errLimit
		}
	}
	return nil
}

// tailOffset is where the last n lines of a file begin.
func tailOffset(f *os.File, n int64) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	end := st.Size()
	if n == 0 {
		return end, nil
	}
	buf := make([]byte, 64<<10)
	seen := int64(0)
	for at := end; at > 0; {
		size := min(int64(len(buf)), at)
		at -= size
		if _, err := f.ReadAt(buf[:size], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := size - 1; i >= 0; i-- {
			// The newline at the very end closes the last line.
			if buf[i] != '\n' || at+i == end-1 {
				continue
			}
			if seen++; seen == n {
				return at + i + 1, nil
			}
		}
	}
	return 0, nil
}
