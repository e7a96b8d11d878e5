package webhookclient

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/client"
	"sagong/object"
)

// Services resolves Services to their endpoints, so that calls arrive although
// nothing on the server's machine may route cluster addresses.
type Services struct {
	Client client.Client
}

// Resolve implements Resolver: any ready endpoint of the port, or the external
// name. Errors are those of the API, in upstream's words.
func (s Services) Resolve(ctx context.Context, namespace, name string, port int32) (string, error) {
	o, err := s.Client.Get(ctx, object.Of[*corev1.Service](s.Client.Scheme()), namespace, name)
	if err != nil {
		return "", err
	}
	svc := o.(*corev1.Service)
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	portName, found := "", false
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			portName, found = p.Name, true
		}
	}
	if !found {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, name))
	}
	list, err := s.Client.List(ctx, object.Of[*discoveryv1.EndpointSlice](s.Client.Scheme()), namespace,
		client.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return "", err
	}
	var ready []string
	for _, it := range list.Items {
		ready = append(ready, readyAddresses(it.(*discoveryv1.EndpointSlice), portName)...)
	}
	if len(ready) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	return ready[rand.IntN(len(ready))], nil
}

func readyAddresses(s *discoveryv1.EndpointSlice, portName string) (out []string) {
	for _, p := range s.Ports {
		if p.Port == nil || p.Name != nil && *p.Name != portName || p.Name == nil && portName != "" {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				out = append(out, net.JoinHostPort(a, strconv.Itoa(int(*p.Port))))
			}
		}
	}
	return out
}
