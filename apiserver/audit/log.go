package audit

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sagong/object"
)

// LogOptions say how the log file is kept. Path is needed.
type LogOptions struct {
	// Path is the file; "-" is standard output.
	Path string
	// Legacy writes a line of text an event instead of JSON.
	Legacy bool
	// MaxSize is the size at which a file is put aside, in bytes; 0 never.
	MaxSize int64
	// MaxBackups is how many files put aside are kept, 0 all; MaxAge how long, 0
	// for ever.
	MaxBackups int
	MaxAge     time.Duration
	Log        *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Log is the Sink that writes a file, a line an event. Files put aside are named
// by their time, as upstream does: audit-2006-01-02T15-04-05.000.log.
type Log struct {
	o LogOptions

	mu     sync.Mutex
	file   io.WriteCloser
	buf    *bufio.Writer
	size   int64
	flush  *time.Timer
	armed  bool
	failed bool
	last   time.Time // of the newest file put aside
}

// delay is how long a line may wait for others before it is written.
const delay = 200 * time.Millisecond

// OpenLog opens the file, or makes it.
func OpenLog(o LogOptions) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{o: o}
	l.flush = time.AfterFunc(time.Hour, l.write)
	l.flush.Stop()
	return l, l.open()
}

type stdout struct{ io.Writer }

func (stdout) Close() error { return nil }

func (l *Log) open() error {
	if l.o.Path == "-" {
		l.file, l.buf = stdout{os.Stdout}, bufio.NewWriterSize(os.Stdout, 64<<10)
		return nil
	}
	f, err := os.OpenFile(l.o.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the audit log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("cannot open the audit log: %w", err)
	}
	l.file, l.size, l.buf = f, info.Size(), bufio.NewWriterSize(f, 64<<10)
	return nil
}

// Write implements Sink.
func (l *Log) Write(e *auditv1.Event) {
	if l.o.Legacy {
		l.add(append([]byte(legacy(e)), '\n'))
		return
	}
	buf := lines.Get().(*[]byte)
	defer lines.Put(buf)
	line, err := object.AppendJSON((*buf)[:0], e)
	if err != nil {
		l.o.Log.Error("cannot encode an audit event", "err", err)
		return
	}
	*buf = append(line, '\n')
	l.add(*buf)
}

var lines = sync.Pool{New: func() any { return new([]byte) }}

func (l *Log) add(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.o.MaxSize > 0 && l.size > 0 && l.size+int64(len(line)) > l.o.MaxSize && l.o.Path != "-" {
		l.rotate()
	}
	if l.file == nil {
		return
	}
	n, err := l.buf.Write(line)
	l.size += int64(n)
	l.report(err)
	if !l.armed {
		l.armed = true
		l.flush.Reset(delay)
	}
}

func (l *Log) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	if l.file != nil {
		l.report(l.buf.Flush())
	}
}

const backupTime = "2006-01-02T15-04-05.000"

// names of files put aside begin and end with these.
func (l *Log) around() (prefix, suffix string) {
	suffix = filepath.Ext(l.o.Path)
	return strings.TrimSuffix(filepath.Base(l.o.Path), suffix) + "-", suffix
}

// rotate puts the file aside and begins a new one.
func (l *Log) rotate() {
	if l.file != nil {
		l.report(l.buf.Flush())
		l.file.Close()
		l.file = nil
	}
	prefix, suffix := l.around()
	dir := filepath.Dir(l.o.Path)
	at := l.o.Now().UTC()
	if next := l.last.Add(time.Millisecond); at.Before(next) {
		at = next // two in one instant
	}
	l.last = at
	aside := filepath.Join(dir, prefix+at.Format(backupTime)+suffix)
	l.report(os.Rename(l.o.Path, aside))
	l.report(l.open())
	l.prune()
}

// prune removes files put aside that are too many or too old.
func (l *Log) prune() {
	prefix, suffix := l.around()
	dir := filepath.Dir(l.o.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		l.report(err)
		return
	}
	type backup struct {
		name string
		at   time.Time
	}
	var all []backup
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), prefix)
		if text, ok2 := strings.CutSuffix(text, suffix); ok && ok2 {
			if at, err := time.Parse(backupTime, text); err == nil {
				all = append(all, backup{e.Name(), at})
			}
		}
	}
	slices.SortFunc(all, func(a, b backup) int { return b.at.Compare(a.at) }) // newest first
	for i, b := range all {
		if l.o.MaxBackups > 0 && i >= l.o.MaxBackups || l.o.MaxAge > 0 && l.o.Now().Sub(b.at) > l.o.MaxAge {
			l.report(os.Remove(filepath.Join(dir, b.name)))
		}
	}
}

// report says a failure once, until writing works again: a full disk must not
// fill the server's log as well.
func (l *Log) report(err error) {
	if err != nil && !l.failed {
		l.o.Log.Error("cannot write the audit log", "err", err)
	}
	l.failed = err != nil
}

// Close writes what waits.
func (l *Log) Close() {
	l.flush.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.report(l.buf.Flush())
		l.file.Close()
		l.file = nil
	}
}

// legacy is upstream's line of text.
func legacy(e *auditv1.Event) string {
	username, groups, asUser, asGroups := "<none>", "<none>", "<self>", "<lookup>"
	if e.User.Username != "" {
		username = e.User.Username
		if len(e.User.Groups) > 0 {
			groups = quoted(e.User.Groups)
		}
	}
	if as := e.ImpersonatedUser; as != nil {
		asUser = as.Username
		if as.Groups != nil {
			asGroups = quoted(as.Groups)
		}
	}
	namespace := "<none>"
	if e.ObjectRef != nil && e.ObjectRef.Namespace != "" {
		namespace = e.ObjectRef.Namespace
	}
	response := "<deferred>"
	if e.ResponseStatus != nil {
		response = fmt.Sprint(e.ResponseStatus.Code)
	}
	ip := "<unknown>"
	if len(e.SourceIPs) > 0 {
		ip = e.SourceIPs[0]
	}
	return fmt.Sprintf("%s AUDIT: id=%q stage=%q ip=%q method=%q user=%q groups=%q as=%q asgroups=%q user-agent=%q namespace=%q uri=%q response=\"%s\"",
		e.RequestReceivedTimestamp.Format(time.RFC3339Nano), e.AuditID, e.Stage, ip, e.Verb, username, groups, asUser, asGroups, e.UserAgent, namespace, e.RequestURI, response)
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ",")
}
