package script

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// deviceDriver is a driver of devices as vendors write them. A prepared claim
// becomes a device in CDI that sets DEVICE to the claim's name, makes /dev/device
// of /dev/zero and shows the directory /etc of the host as /device.
type deviceDriver struct {
	registration.UnimplementedRegistrationServer
	dra.UnimplementedDRAPluginServer
	name, socket, spec string
	told               chan *registration.RegistrationStatus
}

// driver starts a driver beside the node: driver NAME PLUGINS, the directory
// where plugins put their sockets. It fails unless the node takes the driver on.
func driver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: driver NAME PLUGINS")
	}
	d := &deviceDriver{
		name: args[0], socket: filepath.Join(ts.MkAbs(args[1]), "driver.sock"), told: make(chan *registration.RegistrationStatus, 1),
		spec: filepath.Join("/var/run/cdi", ts.Getenv("SAGONG_NAME")+".json"),
	}
	if _, err := os.Stat(filepath.Dir(d.spec)); os.IsNotExist(err) {
		ts.Check(os.MkdirAll(filepath.Dir(d.spec), 0o755))
		ts.Defer(func() { _ = os.Remove(filepath.Dir(d.spec)) })
	}
	l, err := net.Listen("unix", d.socket)
	ts.Check(err)
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, d)
	dra.RegisterDRAPluginServer(s, d)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	ts.Defer(func() { s.Stop(); <-ended; _ = os.Remove(d.spec) })
	if status := <-d.told; !status.PluginRegistered {
		ts.Fatalf("the node refuses the driver: %s", status.Error)
	}
}

func (d *deviceDriver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.DRAPlugin, Name: d.name, Endpoint: d.socket, SupportedVersions: []string{dra.DRAPluginService}}, nil
}

func (d *deviceDriver) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	select {
	case d.told <- s:
	default:
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *deviceDriver) NodePrepareResources(_ context.Context, in *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	out := &dra.NodePrepareResourcesResponse{Claims: map[string]*dra.NodePrepareResourceResponse{}}
	for _, c := range in.Claims {
		spec := fmt.Sprintf(`{"cdiVersion": "0.6.0", "kind": "%s/device", "devices": [{"name": "%s", "containerEdits": {
			"env": ["DEVICE=%s"], "deviceNodes": [{"path": "/dev/device", "hostPath": "/dev/zero"}], "mounts": [{"hostPath": "/etc", "containerPath": "/device", "options": ["ro"]}]}}]}`,
			d.name, c.Uid, c.Name)
		out.Claims[c.Uid] = &dra.NodePrepareResourceResponse{Devices: []*dra.Device{{PoolName: "pool", DeviceName: "device-0", CdiDeviceIds: []string{d.name + "/device=" + c.Uid}}}}
		if err := os.WriteFile(d.spec, []byte(spec), 0o644); err != nil {
			out.Claims[c.Uid].Error = err.Error()
		}
	}
	return out, nil
}

func (d *deviceDriver) NodeUnprepareResources(_ context.Context, in *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	out := &dra.NodeUnprepareResourcesResponse{Claims: map[string]*dra.NodeUnprepareResourceResponse{}}
	for _, c := range in.Claims {
		out.Claims[c.Uid] = &dra.NodeUnprepareResourceResponse{}
	}
	return out, os.Remove(d.spec)
}
