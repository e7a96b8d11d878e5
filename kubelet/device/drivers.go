// Package device prepares the devices that the scheduler gave to claims: it
// knows the drivers on the node, asks them to prepare and to release devices,
// remembers across restarts what they said, and says what a container gets.
package device

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	drabeta "k8s.io/kubelet/pkg/apis/dra/v1beta1"

	"sagong/client"
	"sagong/kubelet/plugin"
)

const (
	// patience is how long a driver has to answer: upstream's.
	patience = 45 * time.Second
	// grace is how long a driver may be away before what it offers is withdrawn.
	grace = 30 * time.Second
)

// caller is the part of a driver that prepares devices.
type caller interface {
	NodePrepareResources(ctx context.Context, in *dra.NodePrepareResourcesRequest, opts ...grpc.CallOption) (*dra.NodePrepareResourcesResponse, error)
	NodeUnprepareResources(ctx context.Context, in *dra.NodeUnprepareResourcesRequest, opts ...grpc.CallOption) (*dra.NodeUnprepareResourcesResponse, error)
}

// older speaks v1beta1, which differs in names and knows no shares of devices.
type older struct{ drabeta.DRAPluginClient }

func (o older) NodePrepareResources(ctx context.Context, in *dra.NodePrepareResourcesRequest, opts ...grpc.CallOption) (*dra.NodePrepareResourcesResponse, error) {
	req := &drabeta.NodePrepareResourcesRequest{}
	for _, c := range in.Claims {
		req.Claims = append(req.Claims, &drabeta.Claim{Namespace: c.Namespace, Uid: c.Uid, Name: c.Name})
	}
	said, err := o.DRAPluginClient.NodePrepareResources(ctx, req, opts...)
	if err != nil {
		return nil, err
	}
	out := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for uid, c := range said.Claims {
		x := &dra.NodePrepareResourceResponse{Error: c.GetError()}
		for _, d := range c.GetDevices() {
			x.Devices = append(x.Devices, &dra.Device{RequestNames: d.RequestNames, PoolName: d.PoolName, DeviceName: d.DeviceName, CdiDeviceIds: d.CdiDeviceIds})
		}
		out.Claims[uid] = x
	}
	return out, nil
}

func (o older) NodeUnprepareResources(ctx context.Context, in *dra.NodeUnprepareResourcesRequest, opts ...grpc.CallOption) (*dra.NodeUnprepareResourcesResponse, error) {
	req := &drabeta.NodeUnprepareResourcesRequest{}
	for _, c := range in.Claims {
		req.Claims = append(req.Claims, &drabeta.Claim{Namespace: c.Namespace, Uid: c.Uid, Name: c.Name})
	}
	said, err := o.DRAPluginClient.NodeUnprepareResources(ctx, req, opts...)
	if err != nil {
		return nil, err
	}
	out := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for uid, c := range said.Claims {
		out.Claims[uid] = &dra.NodeUnprepareResourceResponse{Error: c.GetError()}
	}
	return out, nil
}

// driver is one that runs on the node now.
type driver struct {
	endpoint string
	conn     *grpc.ClientConn
	caller
	deaf func() // stops following the health of its devices, and waits for that
}

// drivers are the node's drivers by name. While one is replaced there are two:
// the one that came last is asked.
type drivers struct {
	mu sync.Mutex
	by map[string][]*driver
}

func (d *drivers) get(name string) (*driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if list := d.by[name]; len(list) > 0 {
		return list[len(list)-1], nil
	}
	return nil, fmt.Errorf("DRA driver %s is not registered", name)
}

// Register implements plugin.Handler.
func (m *Manager) Register(_ context.Context, i plugin.Info) error {
	conn, err := plugin.Dial(i.Endpoint)
	if err != nil {
		return err
	}
	d := &driver{endpoint: i.Endpoint, conn: conn}
	switch {
	case slices.Contains(i.Versions, dra.DRAPluginService):
		d.caller = dra.NewDRAPluginClient(conn)
	case slices.Contains(i.Versions, drabeta.DRAPluginService), slices.ContainsFunc(i.Versions, func(v string) bool { return strings.HasPrefix(v, "1.") }):
		d.caller = older{drabeta.NewDRAPluginClient(conn)} // before 1.32 a version was named, not a service
	default:
		conn.Close()
		return fmt.Errorf("none of the DRA gRPC API services supported by the plugin are supported: %q", i.Versions)
	}
	m.drivers.mu.Lock()
	defer m.drivers.mu.Unlock()
	for _, o := range m.drivers.by[i.Name] {
		if o.endpoint == i.Endpoint {
			conn.Close()
			return fmt.Errorf("endpoint %s already registered for DRA driver plugin %s", i.Endpoint, i.Name)
		}
	}
	m.drivers.by[i.Name] = append(m.drivers.by[i.Name], d)
	d.deaf = func() {}
	if c := healthOf(i, conn); c != nil {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.follow(ctx, i.Name, c)
		}()
		d.deaf = func() { stop(); <-done }
	}
	return nil
}

// Deregister implements plugin.Handler: what a driver offers is withdrawn when
// it does not come back soon.
func (m *Manager) Deregister(i plugin.Info) {
	m.drivers.mu.Lock()
	list := m.drivers.by[i.Name]
	deaf := func() {}
	for k, d := range list {
		if d.endpoint == i.Endpoint {
			deaf = d.deaf
			d.conn.Close()
			list = slices.Delete(slices.Clone(list), k, k+1)
			break
		}
	}
	if m.drivers.by[i.Name] = list; len(list) == 0 {
		delete(m.drivers.by, i.Name)
	}
	m.drivers.mu.Unlock()
	deaf()
	if len(list) == 0 {
		m.cfg.Later(i.Name, grace, func(ctx context.Context) { m.withdraw(ctx, i.Name) })
	}
}

// withdraw deletes the slices of a driver that is not there, or with "" of all
// that are not.
func (m *Manager) withdraw(ctx context.Context, name string) {
	sel := fields.Set{resourcev1.ResourceSliceSelectorNodeName: m.cfg.Node}
	if name != "" {
		sel[resourcev1.ResourceSliceSelectorDriver] = name
	}
	list, _, err := client.ListOf[*resourcev1.ResourceSlice](ctx, m.cfg.Client, "", client.ListOptions{FieldSelector: sel.String()})
	for _, s := range list {
		if _, there := m.drivers.get(s.Spec.Driver); there == nil {
			continue
		}
		gone := client.Delete[*resourcev1.ResourceSlice](ctx, m.cfg.Client, "", s.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(s.UID))})
		if gone != nil && !apierrors.IsNotFound(gone) && !apierrors.IsConflict(gone) {
			err = gone
		}
	}
	if err != nil && ctx.Err() == nil {
		m.cfg.Log.Warn("cannot withdraw the devices of a driver that is gone, trying again", "driver", name, "err", err)
		m.cfg.Later(name, grace, func(ctx context.Context) { m.withdraw(ctx, name) })
	}
}
