package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
)

func selectors(label, field string) url.Values {
	q := url.Values{}
	if label != "" {
		q.Set("labelSelector", label)
	}
	if field != "" {
		q.Set("fieldSelector", field)
	}
	return q
}

// List implements client.Client. A long list comes in pages of one revision.
func (c *Client) List(ctx context.Context, d *object.Definition, namespace string, o client.ListOptions) (client.List, error) {
	var out client.List
	q := selectors(o.LabelSelector, o.FieldSelector)
	q.Set("limit", strconv.Itoa(pageSize))
	for {
		resp, err := c.send(ctx, http.MethodGet, c.path(d, namespace, "", "", q), accepts(c.codec(d)), "", nil)
		if err != nil {
			return client.List{}, err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return client.List{}, fmt.Errorf("cannot read the list of %s: %w", d.Resource, err)
		}
		var meta metav1.ListMeta
		if formatOf(resp) == object.Protobuf {
			meta, out.Items, err = protobufList(d, b, out.Items)
		} else {
			meta, out.Items, err = jsonList(d, b, out.Items)
		}
		if err != nil {
			return client.List{}, fmt.Errorf("cannot read the list of %s: %w", d.Resource, err)
		}
		n, err := strconv.ParseInt(meta.ResourceVersion, 10, 64)
		if err != nil {
			return client.List{}, fmt.Errorf("cannot read the list of %s: its resourceVersion is %q", d.Resource, meta.ResourceVersion)
		}
		out.Revision = object.Revision(n)
		if meta.Continue == "" {
			return out, nil
		}
		q.Set("continue", meta.Continue)
	}
}

// protobufList reads metadata (1) and items (2) of any list message.
func protobufList(d *object.Definition, body []byte, items []object.Object) (metav1.ListMeta, []object.Object, error) {
	var meta metav1.ListMeta
	_, raw, err := object.OpenEnvelope(body)
	if err != nil {
		return meta, nil, err
	}
	err = object.EachField(raw, func(number int, value []byte) error {
		switch number {
		case 1:
			return meta.Unmarshal(value)
		case 2:
			o, err := object.Unmarshal(d, value)
			if err != nil {
				return err
			}
			items = append(items, o)
		}
		return nil
	})
	return meta, items, err
}

func jsonList(d *object.Definition, body []byte, items []object.Object) (metav1.ListMeta, []object.Object, error) {
	var l struct {
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return l.Metadata, nil, err
	}
	for _, raw := range l.Items {
		o := d.New()
		if _, err := object.DecodeInto(o, raw, object.JSON, false); err != nil {
			return l.Metadata, nil, err
		}
		items = append(items, o)
	}
	return l.Metadata, items, nil
}
