package callout_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"sagong/apiserver/callout"
)

// TestEndlessAnswer: an authorizer or token service that never stops talking is not
// listened to for ever.
func TestEndlessAnswer(t *testing.T) {
	const enough = 256 << 20 // more than the buffers of two sockets hold
	heard := make(chan int, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 0
		for block := make([]byte, 64<<10); n < enough; n += len(block) {
			if _, err := w.Write(block); err != nil {
				break
			}
		}
		heard <- n
	}))
	c, err := callout.New(&rest.Config{Host: s.URL, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c.Tries = 1
	if err := c.Post(t.Context(), struct{}{}, &struct{}{}); err == nil {
		t.Error("it was believed")
	}
	s.Close()
	close(heard) // nobody was heard, if time was up before
	if n := <-heard; n >= enough {
		t.Errorf("%d bytes were taken", n)
	}
}
