package compose

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/config"
	"sagong/object"
)

// bootstrapObjects are those every cluster starts with, in the order in which
// they may be created.
func bootstrapObjects(c config.Config) []object.Object {
	var all []object.Object
	for _, n := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		all = append(all, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}})
	}
	roles, bindings := authz.BootstrapClusterRoles(), authz.BootstrapClusterRoleBindings()
	if f, _ := c.Features(); f.Workloads { // the settings were checked
		roles, bindings = authz.WithWorkloads(roles, bindings)
	}
	for _, r := range roles {
		all = append(all, r)
	}
	for _, b := range bindings {
		all = append(all, b)
	}
	for _, r := range authz.BootstrapRoles() {
		all = append(all, r)
	}
	for _, b := range authz.BootstrapRoleBindings() {
		all = append(all, b)
	}
	never := corev1.PreemptLowerPriority
	for name, x := range map[string]struct {
		value int32
		text  string
	}{
		"system-cluster-critical": {2000000000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."},
		"system-node-critical":    {2000001000, "Used for system critical pods that must not be moved from their current node."},
	} {
		all = append(all, &schedulingv1.PriorityClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Value: x.value, Description: x.text, PreemptionPolicy: &never,
		})
	}
	all = append(all, factsAccess()...)
	all = append(all, fairnessObjects()...)
	return append(all, apiService(c), dnsService(c))
}

func apiService(c config.Config) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: c.APIServiceIP().String(), ClusterIPs: []string{c.APIServiceIP().String()},
			Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(int32(apiPort(c)))}},
		},
	}
}

// dnsService reserves the DNS server's address and makes it visible. It has no
// selector: every node answers on the address itself.
func dnsService(c config.Config) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: "kube-dns",
			Labels: map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: c.ClusterDNS, ClusterIPs: []string{c.ClusterDNS},
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}
}

// apiEndpoints are the addresses behind the Service kubernetes, in both forms.
func apiEndpoints(c config.Config) (*corev1.Endpoints, *discoveryv1.EndpointSlice) {
	at := netip.MustParseAddrPort(AdvertisedAPI(c))
	name, port, proto, ready := "https", int32(at.Port()), corev1.ProtocolTCP, true
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}}
	sliceMeta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}}
	return &corev1.Endpoints{ObjectMeta: meta, Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: at.Addr().String()}},
			Ports:     []corev1.EndpointPort{{Name: name, Port: port, Protocol: proto}},
		}}}, &discoveryv1.EndpointSlice{
			ObjectMeta: sliceMeta, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
			Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &proto}},
		}
}

// bootstrap creates what is missing, in one batch where it can, and brings the
// roles up to what this version wants unless somebody told it not to.
func bootstrap(ctx context.Context, e *resource.Engine, cl client.Client, c config.Config) error {
	objs := bootstrapObjects(c)
	if err := ensure(ctx, cl, []object.Object{defaultServiceCIDR(c)}); err != nil {
		return err
	}
	if err := ensureAddresses(ctx, e, cl); err != nil {
		return err
	}
	// Namespaces first: the rest lives in them.
	if err := ensure(ctx, cl, objs[:4]); err != nil {
		return err
	}
	if err := ensure(ctx, cl, objs[4:]); err != nil {
		return err
	}
	if err := ensureStorage(ctx, cl); err != nil {
		return err
	}
	wanted := []object.Object{factsConfigMap(c)}
	// An API that listens on loopback alone has no address for pods.
	if !netip.MustParseAddrPort(AdvertisedAPI(c)).Addr().IsLoopback() {
		ep, slice := apiEndpoints(c)
		wanted = append(wanted, ep, slice)
	}
	for _, o := range wanted {
		if err := replace(ctx, cl, o); err != nil {
			return err
		}
	}
	return nil
}

func ensure(ctx context.Context, cl client.Client, objs []object.Object) error {
	var writes []client.Write
	for _, o := range objs {
		d := cl.Scheme().ByObject(o)
		have, err := cl.Get(ctx, d, o.GetNamespace(), o.GetName())
		switch {
		case apierrors.IsNotFound(err):
			writes = append(writes, client.Write{Op: client.OpCreate, Definition: d, Object: o})
		case err != nil:
			return fmt.Errorf("cannot read %s %s: %w", d.Resource, object.KeyOf(o), err)
		default:
			switch updated := roleUpdate(have, o); {
			case updated == nil:
			case updated.GetUID() == "":
				if err := cl.Delete(ctx, d, o.GetNamespace(), o.GetName(), metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(have.GetUID()))}); err != nil {
					return wrap(err, "replace", d, o)
				}
				writes = append(writes, client.Write{Op: client.OpCreate, Definition: d, Object: updated})
			default:
				writes = append(writes, client.Write{Op: client.OpUpdate, Definition: d, Object: updated})
			}
		}
	}
	for i, r := range cl.Batch(ctx, writes) {
		if r.Err != nil && !apierrors.IsAlreadyExists(r.Err) {
			return fmt.Errorf("cannot create %s %s: %w", writes[i].Definition.Resource, object.KeyOf(writes[i].Object), r.Err)
		}
	}
	return nil
}

// replace makes a stored object say what it should, or creates it.
func replace(ctx context.Context, cl client.Client, o object.Object) error {
	d := cl.Scheme().ByObject(o)
	have, err := cl.Get(ctx, d, o.GetNamespace(), o.GetName())
	if apierrors.IsNotFound(err) {
		_, err = cl.Create(ctx, d, o)
		return wrap(err, "create", d, o)
	}
	if err != nil {
		return wrap(err, "read", d, o)
	}
	switch want := o.(type) {
	case *corev1.ConfigMap:
		if equality.Semantic.DeepEqual(have.(*corev1.ConfigMap).Data, want.Data) {
			return nil
		}
	case *corev1.Endpoints:
		if equality.Semantic.DeepEqual(have.(*corev1.Endpoints).Subsets, want.Subsets) {
			return nil
		}
	case *discoveryv1.EndpointSlice:
		h := have.(*discoveryv1.EndpointSlice)
		if equality.Semantic.DeepEqual(h.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(h.Ports, want.Ports) {
			return nil
		}
	}
	o.SetResourceVersion(have.GetResourceVersion())
	_, err = cl.Update(ctx, d, o, "")
	return wrap(err, "update", d, o)
}

func wrap(err error, verb string, d *object.Definition, o object.Object) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot %s %s %s: %w", verb, d.Resource, object.KeyOf(o), err)
}
