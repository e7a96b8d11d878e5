package apiserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

var errPanic = errors.New("This request caused apiserver to panic. Look in the logs for details.")

// response counts what is written. Unwrap gives http.ResponseController the
// connection's own powers.
type response struct {
	http.ResponseWriter
	status  int
	written int64
	wrote   bool
	begun   func(code int) // called once, before the first byte; may be nil
}

func (w *response) begin(code int) {
	if f := w.begun; f != nil && code >= 101 && code != http.StatusProcessing && code != http.StatusEarlyHints {
		w.begun = nil
		f(code)
	}
}

func (w *response) WriteHeader(code int) {
	w.begin(code)
	if w.status == 0 || w.status < 200 {
		w.status = code
	}
	w.wrote = true
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
		w.begin(w.status)
	}
	w.wrote = true
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (w *response) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap serves http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker: the streaming libraries ask for it by type.
// It fails on connections that cannot be taken over, such as HTTP/2.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status, w.wrote = http.StatusSwitchingProtocols, true
		w.begin(w.status)
	}
	return conn, rw, err
}

func (w *response) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// compressAbove is the size from which a response is worth compressing.
const compressAbove = 128 << 10

var gzips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err)
	}
	return w
}}

// write sends a whole body.
func (q *request) write(a accepted, code int, b []byte) {
	q.stream(a, code, len(b), func(w io.Writer) { _, _ = w.Write(b) })
}

// stream sends a body of size bytes, or of any size when that is negative, which
// is written piece by piece. Errors of the connection are the client's to notice.
func (q *request) stream(a accepted, code, size int, body func(io.Writer)) {
	defer q.serializing(a).End()
	h := q.w.Header()
	h.Set("Content-Type", a.contentType(false))
	large := size < 0 || size > compressAbove
	if large {
		q.ticket.Yield() // a slow client takes its time, but no more than a request has
		if end, ok := q.r.Context().Deadline(); ok {
			c := http.NewResponseController(q.w)
			if c.SetWriteDeadline(end) == nil {
				defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
			}
		}
	}
	if large && acceptsGzip(q.r) && !sameMachine(q.r) {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		q.w.WriteHeader(code)
		z := gzips.Get().(*gzip.Writer)
		defer gzips.Put(z)
		z.Reset(q.w)
		body(z)
		z.Close()
		return
	}
	if size >= 0 {
		h.Set("Content-Length", strconv.Itoa(size))
	}
	q.w.WriteHeader(code)
	if q.r.Method != http.MethodHead {
		body(q.w)
	}
}

// sameMachine reports whether a client has one of this machine's addresses. Then
// to compress and expand costs both sides more than the bytes do.
func sameMachine(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	here, err1 := netip.ParseAddrPort(local.String())
	there, err2 := netip.ParseAddrPort(r.RemoteAddr)
	return err1 == nil && err2 == nil && here.Addr() == there.Addr()
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, params, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == "gzip" && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

func indent(b []byte) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSuffix(b, []byte("\n")), "", "  "); err != nil {
		return b
	}
	return out.Bytes()
}
