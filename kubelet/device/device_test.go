package device_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	health "k8s.io/kubelet/pkg/apis/dra-health/v1"
	healthalpha "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	drabeta "k8s.io/kubelet/pkg/apis/dra/v1beta1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"sagong/client"
	"sagong/client/fake"
	"sagong/kinds"
	"sagong/kubelet/device"
	"sagong/kubelet/plugin"
	"sagong/object"
	"sagong/runtime"
)

// driver is a driver of devices as vendors write them, on a socket of its own.
type driver struct {
	registration.UnimplementedRegistrationServer
	dra.UnimplementedDRAPluginServer
	info   *registration.PluginInfo
	told   chan *registration.RegistrationStatus
	server *grpc.Server
	health chan *health.NodeWatchResourcesResponse // what it reports; closed when it does no more

	mu    sync.Mutex
	calls []string
	fails string
}

func (d *driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return d.info, nil
}

func (d *driver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	d.told <- s
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *driver) call(what, name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, what+" "+name)
	return d.fails
}

func (d *driver) fail(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = why
}

func (d *driver) called() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.calls, ", ")
}

func (d *driver) NodePrepareResources(_ context.Context, in *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	out := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for _, c := range in.Claims {
		out.Claims[c.Uid] = &dra.NodePrepareResourceResponse{Error: d.call("prepare", c.Name), Devices: []*dra.Device{
			{RequestNames: []string{"gpu"}, PoolName: "n", DeviceName: "gpu-0", CdiDeviceIds: []string{"example.com/gpu=gpu-0"}},
			{RequestNames: []string{"nic/fast"}, PoolName: "n", DeviceName: "nic-0", CdiDeviceIds: []string{"example.com/nic=nic-0"}},
		}}
	}
	return out, nil
}

func (d *driver) NodeUnprepareResources(_ context.Context, in *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	out := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for _, c := range in.Claims {
		out.Claims[c.Uid] = &dra.NodeUnprepareResourceResponse{Error: d.call("unprepare", c.Name)}
	}
	return out, nil
}

// beta serves the same as v1beta1.
type beta struct {
	drabeta.UnimplementedDRAPluginServer
	d *driver
}

func (b beta) NodePrepareResources(ctx context.Context, in *drabeta.NodePrepareResourcesRequest) (*drabeta.NodePrepareResourcesResponse, error) {
	out := &drabeta.NodePrepareResourcesResponse{Claims: map[string]*drabeta.NodePrepareResourceResponse{}}
	for _, c := range in.Claims {
		said, _ := b.d.NodePrepareResources(ctx, &dra.NodePrepareResourcesRequest{Claims: []*dra.Claim{{Namespace: c.Namespace, Uid: c.Uid, Name: c.Name}}})
		x := &drabeta.NodePrepareResourceResponse{Error: said.Claims[c.Uid].Error}
		for _, d := range said.Claims[c.Uid].Devices {
			x.Devices = append(x.Devices, &drabeta.Device{RequestNames: d.RequestNames, PoolName: d.PoolName, DeviceName: d.DeviceName, CdiDeviceIds: d.CdiDeviceIds})
		}
		out.Claims[c.Uid] = x
	}
	return out, nil
}

func (b beta) NodeUnprepareResources(ctx context.Context, in *drabeta.NodeUnprepareResourcesRequest) (*drabeta.NodeUnprepareResourcesResponse, error) {
	out := &drabeta.NodeUnprepareResourcesResponse{Claims: map[string]*drabeta.NodeUnprepareResourceResponse{}}
	for _, c := range in.Claims {
		said, _ := b.d.NodeUnprepareResources(ctx, &dra.NodeUnprepareResourcesRequest{Claims: []*dra.Claim{{Namespace: c.Namespace, Uid: c.Uid, Name: c.Name}}})
		out.Claims[c.Uid] = &drabeta.NodeUnprepareResourceResponse{Error: said.Claims[c.Uid].Error}
	}
	return out, nil
}

// reporter reports the health of a driver's devices.
type reporter struct {
	health.UnimplementedDRAResourceHealthServer
	d *driver
}

func (r reporter) NodeWatchResources(_ *health.NodeWatchResourcesRequest, s health.DRAResourceHealth_NodeWatchResourcesServer) error {
	for {
		select {
		case said, ok := <-r.d.health:
			if !ok {
				return status.Error(codes.Unimplemented, "it says no more")
			}
			if err := s.Send(said); err != nil {
				return err
			}
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

const driverName = "gpu.example.com"

// node is an API, the directory of plugins and the manager of a node.
type node struct {
	*testing.T
	dir   string
	c     *fake.Client
	m     *device.Manager
	later chan func(context.Context) // what the manager wants done later
	sick  chan types.UID             // pods whose devices' health changed
	stop  func()
}

func newNode(t *testing.T, objs ...object.Object) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "dra") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, dir: dir, c: fake.New(object.NewScheme(kinds.All()...), objs...), later: make(chan func(context.Context), 64), sick: make(chan types.UID, 64)}
	n.start()
	t.Cleanup(func() { n.stop(); n.c.Close(); os.RemoveAll(dir) })
	return n
}

func (n *node) start() {
	n.Helper()
	m, err := device.New(device.Config{
		Client: n.c, Node: "n", File: filepath.Join(n.dir, "state"), CDI: []string{filepath.Join(n.dir, "cdi")}, Log: slog.New(slog.DiscardHandler),
		Later:         func(_ string, _ time.Duration, f func(context.Context)) { n.later <- f },
		HealthChanged: func(pod types.UID) { n.sick <- pod },
	})
	if err != nil {
		n.Fatal(err)
	}
	n.m = m
	ctx, cancel := context.WithCancel(n.Context())
	w := &plugin.Watcher{Dir: filepath.Join(n.dir, "reg"), Handlers: map[string]plugin.Handler{registration.DRAPlugin: m}, Log: slog.New(slog.DiscardHandler)}
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	n.stop = func() { cancel(); <-done }
}

// drive starts a driver and waits until the node has taken it on or refused it.
func (n *node) drive(kind string, versions ...string) (*driver, *registration.RegistrationStatus) {
	n.Helper()
	if err := os.MkdirAll(filepath.Join(n.dir, "reg"), 0o755); err != nil {
		n.Fatal(err)
	}
	path := filepath.Join(n.dir, "reg", "d.sock")
	d := &driver{info: &registration.PluginInfo{Type: kind, Name: driverName, Endpoint: path, SupportedVersions: versions}, told: make(chan *registration.RegistrationStatus, 8), server: grpc.NewServer(), health: make(chan *health.NodeWatchResourcesResponse)}
	registration.RegisterRegistrationServer(d.server, d)
	dra.RegisterDRAPluginServer(d.server, d)
	drabeta.RegisterDRAPluginServer(d.server, beta{d: d})
	health.RegisterDRAResourceHealthServer(d.server, reporter{d: d})
	healthalpha.RegisterDRAResourceHealthServer(d.server, health.V1ServerWrapper{Server: reporter{d: d}})
	l, err := net.Listen("unix", path)
	if err != nil {
		n.Fatal(err)
	}
	go func() { _ = d.server.Serve(l) }()
	n.Cleanup(d.server.Stop)
	return d, <-d.told
}

func claim(users ...*corev1.Pod) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "claim"}}
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{
		{Request: "gpu", Driver: driverName, Pool: "n", Device: "gpu-0"},
	}}}
	for _, p := range users {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p.Name, UID: p.UID})
	}
	return c
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{ResourceClaims: []corev1.PodResourceClaim{{Name: "mine", ResourceClaimName: new("c")}}},
	}
}

func wants(request string) *corev1.Container {
	return &corev1.Container{Resources: corev1.ResourceRequirements{Claims: []corev1.ResourceClaim{{Name: "mine", Request: request}}}}
}

func TestDevicesArePreparedOnceAndReleasedLast(t *testing.T) {
	for _, version := range []string{dra.DRAPluginService, drabeta.DRAPluginService} {
		t.Run(version, func(t *testing.T) {
			p, q := pod("p"), pod("q")
			n := newNode(t, claim(p, q))
			d, status := n.drive(registration.DRAPlugin, version)
			if !status.PluginRegistered {
				t.Fatalf("not registered: %s", status.Error)
			}
			for _, x := range []*corev1.Pod{p, p, q} {
				if err := n.m.Prepare(t.Context(), x); err != nil {
					t.Fatal(err)
				}
			}
			for request, want := range map[string][]string{
				"": {"example.com/gpu=gpu-0", "example.com/nic=nic-0"}, "gpu": {"example.com/gpu=gpu-0"}, "nic": {"example.com/nic=nic-0"}, "other": nil,
			} {
				if ids, err := n.m.Devices(p, wants(request)); err != nil || !slices.Equal(ids, want) {
					t.Errorf("request %q: %v, %v", request, ids, err)
				}
			}
			// The next process knows what this one did.
			n.stop()
			n.start()
			if ids, err := n.m.Devices(q, wants("gpu")); err != nil || len(ids) != 1 {
				t.Errorf("after a restart: %v, %v", ids, err)
			}
			<-d.told // it is taken on again
			if err := n.m.Unprepare(t.Context(), p.UID); err != nil {
				t.Fatal(err)
			}
			if got := d.called(); got != "prepare c" {
				t.Errorf("with one user left: %s", got)
			}
			if err := n.m.Retain(t.Context(), map[types.UID]bool{}); err != nil {
				t.Fatal(err)
			}
			if got := d.called(); got != "prepare c, unprepare c" {
				t.Errorf("without users: %s", got)
			}
			if _, err := n.m.Devices(q, wants("")); err == nil || err.Error() != "unable to get resource for namespace: default, claim: c" {
				t.Errorf("released devices: %v", err)
			}
		})
	}
}

// What a pod gets for its extended resources comes from the claim that its status
// names.
func TestDevicesForExtendedResources(t *testing.T) {
	p := pod("p")
	p.Spec.ResourceClaims = nil
	p.Status.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: "c", RequestMappings: []corev1.ContainerExtendedResourceRequest{
		{ContainerName: "a", ResourceName: "example.com/gpu", RequestName: "gpu"}, {ContainerName: "b", ResourceName: "example.com/nic", RequestName: "nic"},
	}}
	c := claim(p)
	c.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, corev1.SchemeGroupVersion.WithKind("Pod"))}
	n := newNode(t, c)
	d, _ := n.drive(registration.DRAPlugin, dra.DRAPluginService)
	if err := n.m.Prepare(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"a": {"example.com/gpu=gpu-0"}, "b": nil} {
		x := &corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"example.com/gpu": resource.MustParse("1")}}}
		if ids, err := n.m.Devices(p, x); err != nil || !slices.Equal(ids, want) {
			t.Errorf("container %s: %v, %v", name, ids, err)
		}
	}
	if err := n.m.Unprepare(t.Context(), p.UID); err != nil || d.called() != "prepare c, unprepare c" {
		t.Errorf("%s, %v", d.called(), err)
	}
	other := pod("other")
	other.Spec, other.Status = p.Spec, p.Status
	if err := n.m.Prepare(t.Context(), other); err == nil || !strings.Contains(err.Error(), "was not created for Pod default/other") {
		t.Errorf("another pod's: %v", err)
	}
}

func TestHealthOfDevices(t *testing.T) {
	for _, version := range []string{health.DRAResourceHealthService, healthalpha.DRAResourceHealthService} {
		t.Run(version, func(t *testing.T) {
			p := pod("p")
			n := newNode(t, claim(p))
			d, _ := n.drive(registration.DRAPlugin, dra.DRAPluginService, version)
			if err := n.m.Prepare(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			is := func(want string) {
				t.Helper()
				got := ""
				for _, s := range n.m.Health(p, wants("gpu")) {
					for _, h := range s.Resources {
						got += string(s.Name) + " " + string(h.ResourceID) + " " + string(h.Health)
						if h.Message != nil {
							got += ": " + *h.Message
						}
					}
				}
				if got != want {
					t.Errorf("health %q, want %q", got, want)
				}
			}
			const gpu = "claim:mine/gpu example.com/gpu=gpu-0 "
			is(gpu + "Unknown")
			say := func(h health.HealthStatus, lease int64, message string) {
				d.health <- &health.NodeWatchResourcesResponse{Devices: []*health.DeviceHealth{
					{Device: &health.DeviceIdentifier{PoolName: "n", DeviceName: "gpu-0"}, Health: h, HealthCheckTimeoutSeconds: lease, Message: message},
				}}
			}
			say(health.HealthStatus_HEALTHY, 0, "")
			if pod := <-n.sick; pod != p.UID {
				t.Errorf("told of pod %s", pod)
			}
			is(gpu + "Healthy")
			say(health.HealthStatus_UNHEALTHY, 3600, strings.Repeat("x", 2000))
			<-n.sick
			is(gpu + "Unhealthy: " + strings.Repeat("x", 1021) + "...")
			if !strings.HasPrefix(version, "v1alpha1") {
				if all := n.m.Health(p, wants("")); len(all) != 1 || all[0].Name != "claim:mine" || len(all[0].Resources) != 2 {
					t.Errorf("of the whole claim: %+v", all)
				}
			}
			close(d.health)
			<-n.sick
			is(gpu + "Unknown")
			if err := n.m.Unprepare(t.Context(), p.UID); err != nil {
				t.Fatal(err)
			}
			is("")
		})
	}
}

func TestPreparationFails(t *testing.T) {
	p := pod("p")
	n := newNode(t, claim(p))
	if err := n.m.Prepare(t.Context(), p); err == nil || err.Error() != "DRA driver gpu.example.com is not registered" {
		t.Errorf("without a driver: %v", err)
	}
	if err := n.m.Prepare(t.Context(), pod("q")); err == nil || err.Error() != "pod q (q) is not allowed to use ResourceClaim c (claim)" {
		t.Errorf("not reserved: %v", err)
	}
	d, _ := n.drive(registration.DRAPlugin, dra.DRAPluginService)
	d.fail("it is on fire")
	if err := n.m.Prepare(t.Context(), p); err == nil || err.Error() != "NodePrepareResources failed for ResourceClaim c: it is on fire" {
		t.Errorf("on fire: %v", err)
	}
	d.fail("")
	if err := n.m.Prepare(t.Context(), p); err != nil {
		t.Errorf("in the end: %v", err)
	}
}

func TestPluginsThatAreRefused(t *testing.T) {
	for _, x := range []struct{ kind, version, want string }{
		{"CSIPlugin", "1.0.0", "no handler registered for plugin type: CSIPlugin at socket "},
		{registration.DRAPlugin, "v9.DRAPlugin", `none of the DRA gRPC API services supported by the plugin are supported: ["v9.DRAPlugin"]`},
	} {
		n := newNode(t)
		if _, status := n.drive(x.kind, x.version); status.PluginRegistered || !strings.HasPrefix(status.Error, x.want) {
			t.Errorf("%s: %+v", x.kind, status)
		}
	}
}

func TestSlicesOfDriversThatAreGone(t *testing.T) {
	slice := func(name, driver, node string) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourcev1.ResourceSliceSpec{Driver: driver, NodeName: &node, Pool: resourcev1.ResourcePool{Name: node, ResourceSliceCount: 1}}}
	}
	left := func(n *node) string {
		list, _, err := client.ListOf[*resourcev1.ResourceSlice](t.Context(), n.c, "", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range list {
			names = append(names, s.Name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	n := newNode(t, slice("old", "other.example.com", "n"), slice("elsewhere", driverName, "m"), slice("mine", driverName, "n"))
	d, _ := n.drive(registration.DRAPlugin, dra.DRAPluginService)
	n.m.Start(t.Context())
	if got := left(n); got != "elsewhere mine" {
		t.Errorf("at the start: %s", got)
	}
	d.server.Stop() // removes the socket
	withdraw := <-n.later
	if got := left(n); got != "elsewhere mine" {
		t.Errorf("just gone: %s", got)
	}
	withdraw(t.Context())
	if got := left(n); got != "elsewhere" {
		t.Errorf("gone for long: %s", got)
	}
}

func TestInject(t *testing.T) {
	n := newNode(t)
	dir := filepath.Join(n.dir, "cdi")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(kind, edits string) {
		spec := fmt.Sprintf("cdiVersion: 0.6.0\nkind: example.com/%s\ncontainerEdits: {env: [\"ALL=1\"]}\ndevices: [{name: a, containerEdits: %s}]\n", kind, edits)
		if err := os.WriteFile(filepath.Join(dir, kind+".yaml"), []byte(spec), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("gpu", `{env: ["GPU=0", "PATH=/gpu"], deviceNodes: [{path: /dev/gpu, hostPath: /dev/null, permissions: rw}], mounts: [{hostPath: /lib, containerPath: /gpu, options: [ro, nosuid, rbind]}]}`)
	write("hook", `{hooks: [{hookName: createContainer, path: /bin/true}]}`)
	c := &runtime.Container{Env: []string{"PATH=/bin", "A=b"}}
	if err := n.m.Inject(c, []string{"example.com/gpu=a"}); err != nil {
		t.Fatal(err)
	}
	want := &runtime.Container{
		Env:     []string{"A=b", "ALL=1", "GPU=0", "PATH=/gpu"},
		Devices: []runtime.Device{{Source: "/dev/null", Target: "/dev/gpu", Access: "rw"}},
		Mounts:  []runtime.Mount{{Source: "/lib", Target: "/gpu", ReadOnly: true, NoSuid: true}},
	}
	if fmt.Sprintf("%+v", c) != fmt.Sprintf("%+v", want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	if err := n.m.Inject(c, []string{"example.com/none=a"}); err == nil || err.Error() != "CDI device injection failed: unresolvable CDI devices example.com/none=a" {
		t.Errorf("unknown: %v", err)
	}
	if err := n.m.Inject(c, []string{"example.com/hook=a"}); err == nil || !strings.Contains(err.Error(), "it needs a createContainer hook, which this node's runtime does not run") {
		t.Errorf("hook: %v", err)
	}
}
