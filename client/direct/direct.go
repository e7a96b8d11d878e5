// Package direct is the client of components in the server's own process. It
// shares objects by pointer with the server, encodes nothing, and still passes
// through the same authorization, admission and validation as a request over
// HTTP.
package direct

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

// Client acts as one user.
type Client struct {
	engine *resource.Engine
	who    resource.Caller
	authz  authorizer.UnconditionalAuthorizer
}

var (
	_ client.Client = (*Client)(nil)
	_ client.Keeper = (*Client)(nil)
)

// New makes a client that acts as u. name is its field manager, such as
// "kube-scheduler". authz decides what it may do; nil allows everything.
func New(e *resource.Engine, u user.Info, name string, authz authorizer.UnconditionalAuthorizer) *Client {
	return &Client{engine: e, who: resource.Caller{User: u, Agent: name}, authz: authz}
}

// Scheme implements client.Client.
func (c *Client) Scheme() *object.Scheme { return c.engine.Scheme() }

func (c *Client) target(d *object.Definition, namespace, name, subresource string) resource.Target {
	if !d.Namespaced {
		namespace = ""
	}
	return resource.Target{Kind: c.engine.Kind(d), Namespace: namespace, Name: name, Subresource: subresource}
}

// allowed asks the authorizer. Without a decision the answer is no.
func (c *Client) allowed(ctx context.Context, t resource.Target, verb string) error {
	if c.authz == nil {
		return nil
	}
	if c.who.User != nil && slices.Contains(c.who.User.GetGroups(), user.SystemPrivilegedGroup) {
		return nil
	}
	decision, reason, err := c.authz.Authorize(ctx, authorizer.AttributesRecord{
		User: c.who.User, Verb: verb, Namespace: t.Namespace, APIGroup: t.Group, APIVersion: t.Definition.Version,
		Resource: t.Resource, Subresource: t.Subresource, Name: t.Name, ResourceRequest: true,
	})
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	return resource.Forbidden(c.who.User, t, verb, reason)
}

// Get implements client.Client.
func (c *Client) Get(ctx context.Context, d *object.Definition, namespace, name string) (object.Object, error) {
	t := c.target(d, namespace, name, "")
	if err := c.allowed(ctx, t, "get"); err != nil {
		return nil, err
	}
	it, err := c.engine.Get(ctx, t, 0)
	if err != nil {
		return nil, err
	}
	return it.Shared()
}

// List implements client.Client.
func (c *Client) List(ctx context.Context, d *object.Definition, namespace string, o client.ListOptions) (client.List, error) {
	t := c.target(d, namespace, "", "")
	if err := c.allowed(ctx, t, "list"); err != nil {
		return client.List{}, err
	}
	sel, err := object.ParseSelector(d, o.LabelSelector, o.FieldSelector)
	if err != nil {
		return client.List{}, apierrors.NewBadRequest(err.Error())
	}
	t.Share()
	l, err := c.engine.List(ctx, t, resource.ListOptions{Selector: sel})
	if err != nil {
		return client.List{}, err
	}
	out := client.List{Revision: l.Revision}
	if out.Items, err = resource.Objects(l.Items); err != nil {
		return client.List{}, apierrors.NewInternalError(err)
	}
	if t.LetsGo() {
		out.Kept = make([]client.Kept, len(l.Items))
		for i := range l.Items {
			out.Kept[i] = l.Items[i].Kept()
		}
	}
	return out, nil
}

// Keeps implements client.Keeper.
func (c *Client) Keeps(d *object.Definition) func(client.Kept) object.Object {
	k := c.engine.Kind(d)
	if !k.LetsGo() {
		return nil
	}
	return func(kept client.Kept) object.Object { return c.engine.Kept(k, kept) }
}

// Watch implements client.Client.
func (c *Client) Watch(ctx context.Context, d *object.Definition, namespace string, o client.WatchOptions) (client.Watch, error) {
	t := c.target(d, namespace, "", "")
	if err := c.allowed(ctx, t, "watch"); err != nil {
		return nil, err
	}
	sel, err := object.ParseSelector(d, o.LabelSelector, o.FieldSelector)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	t.Share()
	w, err := c.engine.Watch(ctx, t, resource.WatchOptions{Selector: sel, From: o.From})
	if err != nil {
		return nil, err
	}
	return &watch{w: w, keeps: t.LetsGo()}, nil
}

// watch gives the engine's events with their typed objects.
type watch struct {
	w     *resource.Watch
	keeps bool
}

func (w *watch) Next(ctx context.Context) ([]client.Event, error) {
	events, err := w.w.Next(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.Event, len(events))
	for i, e := range events {
		o, err := e.Item.Shared()
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		out[i] = client.Event{Type: e.Type, Object: o, Revision: e.Revision}
		if e.Type != client.Deleted && w.keeps {
			out[i].Kept = e.Item.Kept()
		}
	}
	return out, nil
}

func (w *watch) Close() { w.w.Close() }

// Create implements client.Client.
func (c *Client) Create(ctx context.Context, d *object.Definition, obj object.Object) (object.Object, error) {
	t := c.target(d, obj.GetNamespace(), "", "")
	if err := c.allowed(ctx, t, "create"); err != nil {
		return nil, err
	}
	if d.Virtual {
		out, err := c.engine.CreateSubresource(ctx, c.who, t, obj, &metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		o, ok := out.(object.Object)
		if !ok {
			return nil, apierrors.NewInternalError(fmt.Errorf("creating %s gave a %T", d.Kind, out))
		}
		return o, nil
	}
	it, err := c.engine.Create(ctx, c.who, t, obj, &metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return it.Shared()
}

// Update implements client.Client.
func (c *Client) Update(ctx context.Context, d *object.Definition, obj object.Object, subresource string) (object.Object, error) {
	t := c.target(d, obj.GetNamespace(), obj.GetName(), subresource)
	if err := c.allowed(ctx, t, "update"); err != nil {
		return nil, err
	}
	if subresource != "" && !c.engine.IsPart(t) {
		return nil, apierrors.NewNotFound(d.GR(), obj.GetName()+"/"+subresource)
	}
	it, _, err := c.engine.Update(ctx, c.who, t, obj, &metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	return it.Shared()
}

// Patch implements client.Client.
func (c *Client) Patch(ctx context.Context, d *object.Definition, namespace, name string, p client.Patch) (object.Object, error) {
	t := c.target(d, namespace, name, p.Subresource)
	if err := c.allowed(ctx, t, "patch"); err != nil {
		return nil, err
	}
	if p.Subresource != "" && !c.engine.IsPart(t) {
		return nil, apierrors.NewNotFound(d.GR(), name+"/"+p.Subresource)
	}
	o := &metav1.PatchOptions{FieldManager: p.FieldManager}
	if p.Force {
		o.Force = &p.Force
	}
	it, _, err := c.engine.Patch(ctx, c.who, t, resource.Patch{Type: p.Type, Data: p.Data}, o)
	if err != nil {
		return nil, err
	}
	return it.Shared()
}

// Delete implements client.Client.
func (c *Client) Delete(ctx context.Context, d *object.Definition, namespace, name string, o metav1.DeleteOptions) error {
	t := c.target(d, namespace, name, "")
	if err := c.allowed(ctx, t, "delete"); err != nil {
		return err
	}
	_, _, err := c.engine.Delete(ctx, c.who, t, &o)
	return err
}

// CreateSubresource implements client.Client.
func (c *Client) CreateSubresource(ctx context.Context, d *object.Definition, namespace, name, subresource string, body runtime.Object) (runtime.Object, error) {
	t := c.target(d, namespace, name, subresource)
	if err := c.allowed(ctx, t, "create"); err != nil {
		return nil, err
	}
	return c.engine.CreateSubresource(ctx, c.who, t, body, &metav1.CreateOptions{})
}

// Batch implements client.Client.
func (c *Client) Batch(ctx context.Context, writes []client.Write) []client.Result {
	return c.engine.Batch(ctx, c.who, writes, func(t resource.Target, verb string) error {
		if verb == "create" && t.Subresource == "" {
			t.Name = ""
		}
		return c.allowed(ctx, t, verb)
	})
}
