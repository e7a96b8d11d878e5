// Package remote is the client of components outside the server's process: the
// contract of package client over HTTPS, in protobuf where a kind has it.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"sagong/client"
	"sagong/object"
)

const (
	mediaJSON     = "application/json"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
	// pageSize bounds one response of a list, which goes on at the same revision.
	pageSize = 5000
	// batchWidth is how many writes of a batch are under way at a time.
	batchWidth = 16
	// maxTries bounds a request that the server asks to send again later.
	maxTries = 5
	// maxAnswer bounds an answer other than a list.
	maxAnswer = 64 << 20
)

// Client reaches one API server.
type Client struct {
	http   *http.Client
	base   *url.URL
	agent  string
	scheme *object.Scheme

	mu     sync.RWMutex
	codecs map[*object.Definition]*object.Codec
}

var (
	_ client.Client   = (*Client)(nil)
	_ client.Streamer = (*Client)(nil)
)

// New makes a client of the server that cfg names, with the credentials in it.
// name is its User-Agent, and so its field manager.
func New(cfg *rest.Config, scheme *object.Scheme, name string) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = name
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the API at %s: %w", cfg.Host, err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the API at %s: %w", cfg.Host, err)
	}
	return NewFor(h, base, scheme, name), nil
}

// NewFor makes a client that sends its requests through h, which holds the
// credentials.
func NewFor(h *http.Client, base *url.URL, scheme *object.Scheme, name string) *Client {
	return &Client{http: h, base: base, agent: name, scheme: scheme, codecs: map[*object.Definition]*object.Codec{}}
}

// Scheme implements client.Client.
func (c *Client) Scheme() *object.Scheme { return c.scheme }

func (c *Client) codec(d *object.Definition) *object.Codec {
	c.mu.RLock()
	k := c.codecs[d]
	c.mu.RUnlock()
	if k != nil {
		return k
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k = c.codecs[d]; k == nil {
		k = object.NewCodec(d)
		c.codecs[d] = k
	}
	return k
}

// path is the URL of a resource, an object or a subresource.
func (c *Client) path(d *object.Definition, namespace, name, subresource string, query url.Values) *url.URL {
	parts := []string{"api", d.Version}
	if d.Group != "" {
		parts = []string{"apis", d.Group, d.Version}
	}
	if d.Namespaced && namespace != "" {
		parts = append(parts, "namespaces", namespace)
	}
	parts = append(parts, d.Resource)
	if name != "" {
		parts = append(parts, name)
	}
	if subresource != "" {
		parts = append(parts, subresource)
	}
	u := *c.base
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	escaped := strings.TrimSuffix(u.EscapedPath(), "/") + "/" + strings.Join(parts, "/")
	if plain, err := url.PathUnescape(escaped); err == nil {
		u.Path, u.RawPath = plain, escaped
	}
	u.RawQuery = query.Encode()
	return &u
}

// send does one request and gives the answer, or its Status as an error. It
// waits and tries again when the server asks for that.
func (c *Client) send(ctx context.Context, method string, u *url.URL, accept, contentType string, body []byte) (*http.Response, error) {
	for try := 1; ; try++ {
		var r io.Reader
		if body != nil {
			r = bytes.NewReader(body)
		}
		req, err := http.NewRequestWithContext(ctx, method, u.String(), r)
		if err != nil {
			return nil, fmt.Errorf("cannot ask the API: %w", err)
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("User-Agent", c.agent)
		if body != nil {
			req.Header.Set("Content-Type", contentType)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return nil, fmt.Errorf("cannot reach the API: %w", err)
		}
		if resp.StatusCode < 300 {
			return resp, nil
		}
		wait, again := retryAfter(resp)
		err = failure(resp)
		if !again || try == maxTries {
			return nil, err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}

func retryAfter(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	return time.Duration(n) * time.Second, err == nil && n > 0
}

// failure reads the Status of an answer that is none.
func failure(resp *http.Response) error {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("cannot read the API's error: %w", err)
	}
	s := &metav1.Status{}
	if d, err := object.DecodeInto(s, b, formatOf(resp), false); err == nil && (d.GVK.Kind == "Status" || d.GVK.Kind == "") && s.Status == metav1.StatusFailure {
		return &apierrors.StatusError{ErrStatus: *s}
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, resp.Request.Method, schema.GroupResource{}, "", strings.TrimSpace(string(b)), 0, true)
}

func formatOf(resp *http.Response) object.Format {
	if strings.HasPrefix(resp.Header.Get("Content-Type"), mediaProtobuf) {
		return object.Protobuf
	}
	return object.JSON
}

func accepts(k *object.Codec) string {
	if k.Custom() {
		return mediaJSON
	}
	return mediaProtobuf + "," + mediaJSON
}

// encode is an object's body.
func encode(o runtime.Object, gvk schema.GroupVersionKind) (body []byte, contentType string, err error) {
	if msg, err := object.Marshal(o); err == nil {
		apiVersion := gvk.GroupVersion().String()
		b := make([]byte, 0, object.EnvelopeLen(apiVersion, gvk.Kind, len(msg)))
		return append(object.AppendEnvelope(b, apiVersion, gvk.Kind, len(msg)), msg...), mediaProtobuf, nil
	} else if !errors.Is(err, object.ErrNoProtobuf) {
		return nil, "", err
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	b, err := json.Marshal(o)
	return b, mediaJSON, err
}

// read decodes an answer into an empty object.
func read(resp *http.Response, into runtime.Object) error {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("cannot read the API's answer: %w", err)
	}
	if _, err := object.DecodeInto(into, b, formatOf(resp), false); err != nil {
		return fmt.Errorf("cannot read the API's answer: %w", err)
	}
	return nil
}

// object does a request whose answer is an object of the kind.
func (c *Client) object(ctx context.Context, method string, d *object.Definition, u *url.URL, contentType string, body []byte) (object.Object, error) {
	resp, err := c.send(ctx, method, u, accepts(c.codec(d)), contentType, body)
	if err != nil {
		return nil, err
	}
	o := d.New()
	if err := read(resp, o); err != nil {
		return nil, err
	}
	return o, nil
}

// Get implements client.Client.
func (c *Client) Get(ctx context.Context, d *object.Definition, namespace, name string) (object.Object, error) {
	return c.object(ctx, http.MethodGet, d, c.path(d, namespace, name, "", nil), "", nil)
}

// Create implements client.Client.
func (c *Client) Create(ctx context.Context, d *object.Definition, obj object.Object) (object.Object, error) {
	namespace := obj.GetNamespace()
	body, ct, err := encode(obj, d.GVK())
	if err != nil {
		return nil, err
	}
	return c.object(ctx, http.MethodPost, d, c.path(d, namespace, "", "", nil), ct, body)
}

// Update implements client.Client.
func (c *Client) Update(ctx context.Context, d *object.Definition, obj object.Object, subresource string) (object.Object, error) {
	u := c.path(d, obj.GetNamespace(), obj.GetName(), subresource, nil)
	body, ct, err := encode(obj, d.GVK())
	if err != nil {
		return nil, err
	}
	return c.object(ctx, http.MethodPut, d, u, ct, body)
}

// Patch implements client.Client.
func (c *Client) Patch(ctx context.Context, d *object.Definition, namespace, name string, p client.Patch) (object.Object, error) {
	q := url.Values{}
	if p.FieldManager != "" {
		q.Set("fieldManager", p.FieldManager)
	}
	if p.Force {
		q.Set("force", "true")
	}
	return c.object(ctx, http.MethodPatch, d, c.path(d, namespace, name, p.Subresource, q), string(p.Type), p.Data)
}

// Delete implements client.Client.
func (c *Client) Delete(ctx context.Context, d *object.Definition, namespace, name string, o metav1.DeleteOptions) error {
	body, ct, err := encode(&o, schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"})
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, http.MethodDelete, c.path(d, namespace, name, "", nil), accepts(c.codec(d)), ct, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // to use the connection again
	return err
}

// CreateSubresource implements client.Client. The answer is of the body's type,
// or a Status.
func (c *Client) CreateSubresource(ctx context.Context, d *object.Definition, namespace, name, subresource string, body runtime.Object) (runtime.Object, error) {
	kind := schema.GroupVersionKind{}
	for _, s := range d.Subresources {
		if s.Name == subresource {
			kind = schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: s.Kind}
		}
	}
	if kind.Empty() {
		return nil, apierrors.NewNotFound(d.GR(), name+"/"+subresource)
	}
	answer := body.DeepCopyObject()
	b, ct, err := encode(body, kind)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, http.MethodPost, c.path(d, namespace, name, subresource, nil), mediaProtobuf+","+mediaJSON, ct, b)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("cannot read the API's answer: %w", err)
	}
	got, err := object.KindOf(data, formatOf(resp))
	if err != nil {
		return nil, fmt.Errorf("cannot read the API's answer: %w", err)
	}
	if got.Kind == "Status" {
		answer = &metav1.Status{}
	} else if m, ok := answer.(interface{ Reset() }); ok {
		m.Reset()
	}
	if _, err := object.DecodeInto(answer, data, formatOf(resp), false); err != nil {
		return nil, fmt.Errorf("cannot read the API's answer: %w", err)
	}
	return answer, nil
}

// Batch implements client.Client: the writes go out side by side.
func (c *Client) Batch(ctx context.Context, writes []client.Write) []client.Result {
	results := make([]client.Result, len(writes))
	var wait sync.WaitGroup
	slots := make(chan struct{}, batchWidth)
	for i, w := range writes {
		slots <- struct{}{}
		wait.Go(func() {
			results[i] = c.writeOne(ctx, w)
			<-slots
		})
	}
	wait.Wait()
	return results
}

func (c *Client) writeOne(ctx context.Context, w client.Write) client.Result {
	var r client.Result
	if w.Object == nil || w.Definition == nil {
		r.Err = apierrors.NewBadRequest("a write of a batch needs a definition and an object")
		return r
	}
	namespace, name := w.Object.GetNamespace(), w.Object.GetName()
	switch w.Op {
	case client.OpCreate:
		r.Object, r.Err = c.Create(ctx, w.Definition, w.Object)
	case client.OpUpdate:
		r.Object, r.Err = c.Update(ctx, w.Definition, w.Object, "")
	case client.OpUpdateStatus:
		r.Object, r.Err = c.Update(ctx, w.Definition, w.Object, "status")
	case client.OpDelete:
		o := w.Delete
		if uid := w.Object.GetUID(); uid != "" && o.Preconditions == nil {
			o.Preconditions = &metav1.Preconditions{UID: new(types.UID(uid))}
		}
		r.Err = c.Delete(ctx, w.Definition, namespace, name, o)
	case client.OpBind:
		_, r.Err = c.CreateSubresource(ctx, w.Definition, namespace, name, "binding", w.Object)
	default:
		r.Err = apierrors.NewBadRequest(fmt.Sprintf("operation %d of a batch is unknown", w.Op))
	}
	return r
}

// Stream implements client.Streamer.
func (c *Client) Stream(ctx context.Context, d *object.Definition, namespace, name, subresource string, query map[string][]string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, c.path(d, namespace, name, subresource, url.Values(query)), "*/*", "", nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
