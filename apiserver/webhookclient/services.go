package webhookclient

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
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

// Resolve implements Resolver: a ready endpoint of the port, any one of the
// Service's first IP family if there is one, or the external name. Errors are
// those of the API, in upstream's words.
func (s Services) Resolve(ctx context.Context, namespace, name string, port int32) (string, error) {
	o, err := s.Client.Get(ctx, object.Of[*corev1.Service](s.Client.Scheme()), namespace, name)
	if apierrors.IsNotFound(err) {
		return "", apierrors.NewNotFound(corev1.Resource("service"), name) // as upstream's cache says it
	}
	if err != nil {
		return "", err
	}
	svc := o.(*corev1.Service)
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	at := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port })
	if at < 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, name))
	}
	list, err := s.Client.List(ctx, object.Of[*discoveryv1.EndpointSlice](s.Client.Scheme()), namespace,
		client.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return "", err
	}
	var preferred, others []string
	for _, it := range list.Items {
		slice := it.(*discoveryv1.EndpointSlice)
		ready := readyAddresses(slice, svc.Spec.Ports[at].Name)
		if len(svc.Spec.IPFamilies) > 0 && slice.AddressType == discoveryv1.AddressType(svc.Spec.IPFamilies[0]) {
			preferred = append(preferred, ready...)
		} else {
			others = append(others, ready...)
		}
	}
	if len(preferred) == 0 {
		preferred = others
	}
	if len(preferred) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	return preferred[rand.IntN(len(preferred))], nil
}

func readyAddresses(s *discoveryv1.EndpointSlice, portName string) (out []string) {
	for _, p := range s.Ports {
		if p.Port == nil || p.Name == nil || *p.Name != portName {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			// Further addresses of an endpoint have no meaning.
			out = append(out, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
		}
	}
	return out
}
