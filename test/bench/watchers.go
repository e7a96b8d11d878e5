package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// crowd are many watches of the ConfigMaps of the namespace, on few connections.
type crowd struct {
	seen   atomic.Int64 // deliveries
	mu     sync.Mutex
	ms     []float64 // from the write to the delivery, of every tenth
	cancel context.CancelFunc
	wait   sync.WaitGroup
	failed chan error
}

// watchersAConnection is how many streams of a connection are used.
const watchersAConnection = 125

func (c *cluster) crowd(ctx context.Context, n int) (*crowd, error) {
	ctx, cancel := context.WithCancel(ctx)
	now, err := c.api.CoreV1().ConfigMaps(space).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		cancel()
		return nil, err
	}
	from := now.ResourceVersion
	w := &crowd{cancel: cancel, failed: make(chan error, n)}
	var client *http.Client
	opened := make(chan error, n)
	for i := range n {
		if i%watchersAConnection == 0 {
			tls, err := rest.TLSConfigFor(c.config)
			if err != nil {
				cancel()
				return nil, err
			}
			client = &http.Client{Transport: &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: true}}
		}
		on := client
		w.wait.Go(func() {
			if err := w.watch(ctx, on, c.config.Host+"/api/v1/namespaces/"+space+"/configmaps?watch=true&resourceVersion="+from, opened); err != nil && ctx.Err() == nil {
				w.failed <- err
			}
		})
	}
	for range n {
		if err := <-opened; err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *crowd) watch(ctx context.Context, client *http.Client, url string, opened chan<- error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		opened <- err
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("a watch was answered with %s", resp.Status)
	}
	opened <- err
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReaderSize(resp.Body, 8<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("a watch ended")
			}
			return err
		}
		if w.seen.Add(1)%10 != 0 {
			continue
		}
		_, rest, ok := bytes.Cut(line, []byte(`"written":"`))
		text, _, _ := bytes.Cut(rest, []byte(`"`))
		if at, err := strconv.ParseInt(string(text), 10, 64); ok && err == nil {
			took := float64(time.Now().UnixMicro()-at) / 1000
			w.mu.Lock()
			w.ms = append(w.ms, took)
			w.mu.Unlock()
		}
	}
}

func (w *crowd) close() {
	w.cancel()
	w.wait.Wait()
}

// write makes ConfigMaps that say when, with some clients, at most perSecond of
// them (0: as many as go), and returns how many.
func (c *cluster) write(ctx context.Context, name string, clients, perSecond int, length time.Duration) (int64, error) {
	var done atomic.Int64
	var wait sync.WaitGroup
	var first atomic.Pointer[error]
	begin := time.Now()
	for i := range clients {
		wait.Go(func() {
			for n := 0; time.Since(begin) < length && first.Load() == nil; n++ {
				if perSecond > 0 {
					if err := pause(ctx, time.Until(begin.Add(time.Duration(n*clients+i)*time.Second/time.Duration(perSecond)))); err != nil {
						first.Store(&err)
						return
					}
				}
				_, err := c.api.CoreV1().ConfigMaps(space).Create(ctx, &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d-%d", name, i, n)},
					Data:       map[string]string{"written": strconv.FormatInt(time.Now().UnixMicro(), 10)},
				}, metav1.CreateOptions{})
				if err != nil {
					first.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	wait.Wait()
	if err := first.Load(); err != nil {
		return 0, *err
	}
	return done.Load(), nil
}

// measureWatchers has 1,000 watchers follow what a few clients write as fast as
// they can, then 100 watchers follow 1,000 writes a second.
func measureWatchers(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const many, few, perSecond, length = 1000, 100, 1000, 5 * time.Second
	out := make([][]float64, 2)
	err := b.with(ctx, func(c *cluster) error {
		if err := c.namespace(ctx, space); err != nil {
			return err
		}
		for i := range runs {
			b.say("watchers: %d of %d", i+1, runs)
			w, err := c.crowd(ctx, many)
			if err != nil {
				return err
			}
			begin, before := time.Now(), w.seen.Load()
			written, err := c.write(ctx, fmt.Sprintf("fast%d", i), 4, 0, length)
			for err == nil && w.seen.Load()-before < written*many && time.Since(begin) < 4*length {
				select {
				case err = <-w.failed:
				case <-time.After(time.Millisecond):
				}
			}
			took := time.Since(begin)
			deliveries := w.seen.Load() - before
			w.close()
			if err != nil {
				return err
			}
			if w, err = c.crowd(ctx, few); err != nil {
				return err
			}
			_, err = c.write(ctx, fmt.Sprintf("even%d", i), 16, perSecond, length)
			w.close()
			if err != nil {
				return err
			}
			out[0] = append(out[0], float64(deliveries)/took.Seconds())
			out[1] = append(out[1], percentile(w.ms, 99))
		}
		return nil
	}, "--no-agent")
	return out, err
}
