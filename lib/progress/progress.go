// Package progress passes the steps of a start from the process that takes them
// to the one that shows them.
package progress

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Step is one finished step, or the end of the whole.
type Step struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"` // nanoseconds since the step before
	// Done marks the last step; Failed carries the reason of a failed start.
	Done   bool   `json:"done,omitempty"`
	Failed string `json:"failed,omitempty"`
}

// Reporter tells of steps. A nil Reporter is valid and silent.
type Reporter struct {
	mu   sync.Mutex
	out  io.Writer
	last time.Time
	now  func() time.Time
}

// NewReporter writes steps to out as lines of JSON.
func NewReporter(out io.Writer, now func() time.Time) *Reporter {
	return &Reporter{out: out, last: now(), now: now}
}

// Step reports that a step is finished.
func (r *Reporter) Step(format string, args ...any) {
	r.send(Step{Name: fmt.Sprintf(format, args...)})
}

// Done reports the end of the start.
func (r *Reporter) Done(format string, args ...any) {
	r.send(Step{Name: fmt.Sprintf(format, args...), Done: true})
}

// Fail reports why the start did not succeed.
func (r *Reporter) Fail(err error) { r.send(Step{Failed: err.Error(), Done: true}) }

func (r *Reporter) send(s Step) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out == nil {
		return
	}
	now := r.now()
	s.Took, r.last = now.Sub(r.last), now
	line, err := json.Marshal(s)
	if err == nil {
		_, err = r.out.Write(append(line, '\n'))
	}
	if err != nil || s.Done {
		// The reader is gone or has heard the end: nobody listens any more.
		if c, ok := r.out.(io.Closer); ok {
			_ = c.Close()
		}
		r.out = nil
	}
}

// Follow calls show for each step until the last. It fails with io.ErrUnexpectedEOF
// when the process that reports ended before it was done.
func Follow(in io.Reader, show func(Step)) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var s Step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("cannot read progress: %w", err)
		}
		show(s)
		if s.Done {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("cannot read progress: %w", err)
	}
	return io.ErrUnexpectedEOF
}
