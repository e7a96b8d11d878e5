package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/network/proxy"
)

// measureEndpoint fills the Service proxy of a network namespace of its own.
func measureEndpoint(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const services, changes = 10_000, 200
	type result struct {
		p   *proxy.Proxy
		err error
	}
	opened, done := make(chan result), make(chan struct{})
	defer close(done)
	go func() {
		// The thread ends with this goroutine and takes the namespace along; the
		// proxy's sockets stay in it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			opened <- result{err: fmt.Errorf("cannot make a network namespace: %w", err)}
			return
		}
		p, err := proxy.Open(ctx, proxy.Config{
			Cluster: "bench", NodeName: "n1", NodeIP: netip.MustParseAddr("192.0.2.1"), StateDir: filepath.Join(b.root, "network"),
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}, ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
			ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		})
		opened <- result{p, err}
		<-done
	}()
	r := <-opened
	if r.err != nil {
		return nil, r.err
	}
	defer r.p.Close()
	r.p.Start()
	for i := range services {
		r.p.SetService(manyService(i))
		r.p.SetEndpointSlice(manySlice(i, 10))
	}
	b.say("endpoint: the kernel takes %d Services", services)
	if err := r.p.Flush(ctx); err != nil {
		return nil, err
	}
	var ms []float64
	for i := range runs {
		b.say("endpoint: %d of %d", i+1, runs)
		var took []float64
		for n := range changes {
			slice := manySlice(7, 10-n%2)
			begin := time.Now()
			r.p.SetEndpointSlice(slice)
			if err := r.p.Flush(ctx); err != nil {
				return nil, err
			}
			took = append(took, time.Since(begin).Seconds()*1000)
		}
		ms = append(ms, median(took))
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
	}
	return [][]float64{ms}, nil
}

func manyService(i int) *corev1.Service {
	ip := fmt.Sprintf("10.96.%d.%d", 1+i/250, i%250)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: fmt.Sprintf("s%d", i)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}

func manySlice(i, endpoints int) *discoveryv1.EndpointSlice {
	name, port, protocol, ready := "http", int32(8080), corev1.ProtocolTCP, true
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: space, Name: fmt.Sprintf("s%d-a", i), Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("s%d", i)},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for e := range endpoints {
		n := i*10 + e
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", n/250%250, n%250)},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		})
	}
	return s
}
