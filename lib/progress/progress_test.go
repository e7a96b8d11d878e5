package progress

import (
	"errors"
	"io"
	"testing"
	"time"
)

func TestStepsArriveInOrderWithTheirTimes(t *testing.T) {
	now := time.Unix(0, 0)
	r, w := io.Pipe()
	rep := NewReporter(w, func() time.Time { return now })
	go func() {
		now = now.Add(3 * time.Millisecond)
		rep.Step("one of %d", 2)
		now = now.Add(4 * time.Millisecond)
		rep.Done("two")
		rep.Step("said after the end: dropped")
	}()
	var got []Step
	if err := Follow(r, func(s Step) { got = append(got, s) }); err != nil {
		t.Fatal(err)
	}
	want := []Step{{Name: "one of 2", Took: 3 * time.Millisecond}, {Name: "two", Took: 4 * time.Millisecond, Done: true}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v", got)
	}
}

func TestAnEndWithoutWordIsAnError(t *testing.T) {
	r, w := io.Pipe()
	go w.Close()
	if err := Follow(r, func(Step) {}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	var none *Reporter
	none.Step("nobody listens")
	none.Fail(errors.New("x"))
}
