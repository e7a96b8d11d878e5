// Package fake is a client for tests of components: the real engine of the API
// over a store in memory, so that revisions, conflicts, watches, finalizers and
// validation are those of a server.
package fake

import (
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/client/direct"
	"sagong/object"
	"sagong/store"
)

// Client is a client.Client over a cluster of its own, which it may do anything
// to.
type Client struct {
	*direct.Client
	engine *resource.Engine
	store  *store.Local
}

var _ client.Client = (*Client)(nil)

// New makes a cluster with the given objects and a client to it. It panics when
// an object cannot be created, which is a mistake in the test. Close it.
func New(scheme *object.Scheme, objs ...object.Object) *Client {
	s := store.OpenMemory(store.Options{Tag: resource.Tag})
	e := resource.New(resource.Options{Store: s, Scheme: scheme})
	c := &Client{engine: e, store: s, Client: direct.New(e, &user.DefaultInfo{
		Name: "test", Groups: []string{user.SystemPrivilegedGroup},
	}, "test", nil)}
	for _, o := range objs {
		if err := c.Seed(o); err != nil {
			s.Close()
			panic(err)
		}
	}
	return c
}

// Seed puts an object into the store as it is, status and all, past admission
// and validation: the state a test begins with. Missing uid and
// creationTimestamp are filled in.
func (c *Client) Seed(o object.Object) error {
	d := c.Scheme().ByObject(o)
	if d == nil {
		return fmt.Errorf("cannot seed a %T: its kind is not in the scheme", o)
	}
	return c.engine.Seed(context.Background(), d, o)
}

// As returns a client to the same cluster whose writes name another field
// manager.
func (c *Client) As(name string) *direct.Client {
	return direct.New(c.engine, &user.DefaultInfo{Name: name, Groups: []string{user.SystemPrivilegedGroup}}, name, nil)
}

// Engine is the API beneath the client.
func (c *Client) Engine() *resource.Engine { return c.engine }

// Revision is the newest revision of the cluster.
func (c *Client) Revision() object.Revision { return object.Revision(c.store.Rev()) }

// Close ends all watches and frees the store.
func (c *Client) Close() error { return c.store.Close() }
