// Package callout speaks to the services that decide or record for the API
// server: webhooks of authentication, authorization and audit, each described
// by a kubeconfig file whose server is the service and whose user is us.
package callout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"sagong/apiserver/turn"
	"sagong/lib/tracing"
)

// Client posts objects to one service.
type Client struct {
	url  *url.URL
	http *http.Client
	// Wait is the time before the first repetition of a call that failed; each
	// further one is half as long again. Tries is how often at most, 1 for once.
	Wait  time.Duration
	Tries int
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20

// Open reads a kubeconfig file.
func Open(kubeconfig string, timeout time.Duration) (*Client, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, err
	}
	cfg.Timeout = timeout
	return New(cfg)
}

// New makes a client of a configuration.
func New(cfg *rest.Config) (*Client, error) {
	u, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "sagong"
	}
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(tracing.Transport)
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	// Where the service is was said by the administrator, not by who answers.
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{url: u, http: hc, Wait: 500 * time.Millisecond, Tries: 5}, nil
}

// answerError is an answer that is not a success.
type answerError struct {
	code int
	body []byte
}

func (e *answerError) Error() string {
	const most = 200
	b := e.body
	if len(b) > most {
		b = b[:most]
	}
	return fmt.Sprintf("it answered %d %s: %q", e.code, http.StatusText(e.code), b)
}

// Post sends in as JSON and reads the answer into out (nil for none). It repeats
// what may succeed the next time: no connection, too many requests, a fault of
// the service.
func (c *Client) Post(ctx context.Context, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	wait := c.Wait
	for try := 1; ; try++ {
		err = c.once(ctx, body, out)
		if err == nil || try >= c.Tries || !again(err) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		case <-timer.C:
		}
		wait += wait / 2
	}
}

func again(err error) bool {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer.code == http.StatusTooManyRequests || answer.code >= 500
	}
	var syntax *json.SyntaxError
	return !errors.As(err, &syntax) && !errors.Is(err, context.Canceled)
}

func (c *Client) once(ctx context.Context, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	turn.Yield(ctx)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &answerError{resp.StatusCode, answer}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
