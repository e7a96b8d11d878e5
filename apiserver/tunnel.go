package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"

	"sagong/apiserver/resource"
	"sagong/object"
)

// NodeConnector reaches the node agents.
type NodeConnector interface {
	// Handler is the agent of a node that lives in this process; nil when it
	// lives elsewhere.
	Handler(node string) http.Handler
	// TLS is how an agent elsewhere is spoken to: the certificate the API server
	// shows, and the authority that its certificate must be from.
	TLS() *tls.Config
	// Dial connects to a pod or Service address of the cluster network.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// serveTunnel answers the subresources that are served elsewhere: by the agent
// of a pod's node, or by the pod itself.
func (q *request) serveTunnel(t resource.Target) error {
	if q.s.Nodes == nil {
		return apierrors.NewServiceUnavailable("this server cannot reach node agents")
	}
	main := t
	main.Subresource = ""
	ctx := q.r.Context()
	switch t.Resource + "/" + t.Subresource {
	case "pods/log", "pods/exec", "pods/attach", "pods/portforward":
		if err := q.mayCreate(t.Subresource); err != nil {
			return err
		}
		it, err := q.s.engine.Get(ctx, main, 0)
		if err != nil {
			return err
		}
		o, err := it.Shared()
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		return q.toAgent(t, o.(*corev1.Pod))
	case "nodes/proxy":
		scheme, name, port, err := splitProxyName(t.Name)
		if err != nil {
			return err
		}
		main.Name = name
		node, err := q.node(ctx, name)
		if err != nil {
			return err
		}
		if err := q.connect(t, &corev1.NodeProxyOptions{Path: q.info.Rest}); err != nil {
			return err
		}
		if port != "" && port != strconv.Itoa(int(agentPort(node))) || scheme == "http" {
			address, err := nodeAddress(node)
			if err != nil {
				return err
			}
			return q.forward(&url.URL{Scheme: cmpScheme(scheme), Host: net.JoinHostPort(address, cmpPort(port, "80"))}, q.info.Rest)
		}
		return q.agent(node, q.info.Rest, q.r.URL.RawQuery)
	case "pods/proxy":
		return q.podProxy(t)
	case "services/proxy":
		return q.serviceProxy(t)
	}
	return q.notAllowed()
}

// mayCreate demands the right to create of those who open a stream into a pod by
// GET, as browsers do: the right to read everything is not one to run commands.
func (q *request) mayCreate(subresource string) error {
	if subresource == "log" || q.info.Verb == "create" {
		return nil
	}
	a := q.attributes()
	a.Verb = "create"
	_, err := q.allowed(q.r.Context(), a)
	return err
}

func cmpScheme(s string) string {
	if s == "" {
		return "http"
	}
	return s
}

func cmpPort(p, otherwise string) string {
	if p == "" {
		return otherwise
	}
	return p
}

// connect asks admission.
func (q *request) connect(t resource.Target, options runtime.Object) error {
	return q.s.engine.Connect(q.r.Context(), q.caller(), t, options)
}

// toAgent passes a pod's stream on to its node's agent.
func (q *request) toAgent(t resource.Target, pod *corev1.Pod) error {
	v := q.r.URL.Query()
	container, err := chooseContainer(pod, v.Get("container"))
	if t.Subresource != "portforward" && err != nil {
		return err
	}
	var options runtime.Object
	path, out := "", url.Values{}
	pass := func(names ...string) {
		for _, n := range names {
			if vs, ok := v[n]; ok {
				out[n] = vs
			}
		}
	}
	flag := func(name, as string, otherwise bool) bool {
		on := otherwise
		if _, ok := v[name]; ok {
			on = truth(v, name)
		}
		if on {
			out.Set(as, "1")
		}
		return on
	}
	at := pod.Namespace + "/" + pod.Name
	switch t.Subresource {
	case "log":
		if err := checkLogOptions(v); err != nil {
			return err
		}
		o := &corev1.PodLogOptions{Container: container, Follow: truth(v, "follow"), Previous: truth(v, "previous")}
		options, path = o, "/containerLogs/"+at+"/"+container
		pass("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
	case "exec":
		path = "/exec/" + at + "/" + container
		o := &corev1.PodExecOptions{
			Container: container, Command: v["command"], Stdin: flag("stdin", "input", false), Stdout: flag("stdout", "output", false),
			TTY: flag("tty", "tty", false),
		}
		o.Stderr = flag("stderr", "error", false)
		out["command"] = v["command"]
		if len(o.Command) == 0 {
			return apierrors.NewBadRequest("you must specify at least one command for the container")
		}
		if !o.Stdin && !o.Stdout && !o.Stderr {
			return apierrors.NewBadRequest("you must specify at least one of stdin, stdout, stderr")
		}
		options = o
	case "attach":
		path = "/attach/" + at + "/" + container
		o := &corev1.PodAttachOptions{Container: container, Stdin: flag("stdin", "input", false), Stdout: flag("stdout", "output", true), Stderr: flag("stderr", "error", true), TTY: flag("tty", "tty", false)}
		options = o
	case "portforward":
		path = "/portForward/" + at
		pass("ports", "port")
		options = &corev1.PodPortForwardOptions{}
	}
	if err := q.connect(t, options); err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		if t.Subresource == "log" {
			return q.plainOK() // a pod without a node has no logs yet
		}
		return apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	node, err := q.node(q.r.Context(), pod.Spec.NodeName)
	if err != nil {
		return err
	}
	return q.agent(node, path, out.Encode())
}

func (q *request) plainOK() error {
	q.w.Header().Set("Content-Type", "text/plain")
	q.w.WriteHeader(http.StatusOK)
	return nil
}

func checkLogOptions(v url.Values) error {
	for _, name := range []string{"sinceSeconds", "tailLines", "limitBytes"} {
		n, err := integer(v, name)
		if err != nil {
			return err
		}
		if n != nil && (*n < 0 || *n == 0 && name != "tailLines") {
			return apierrors.NewBadRequest(fmt.Sprintf("%s must be greater than or equal to %d", name, map[bool]int{true: 0, false: 1}[name == "tailLines"]))
		}
	}
	if v.Get("sinceSeconds") != "" && v.Get("sinceTime") != "" {
		return apierrors.NewBadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
	}
	return nil
}

// chooseContainer finds the container a stream is for: the one named, the only
// one, or the pod's default.
func chooseContainer(pod *corev1.Pod, name string) (string, error) {
	var all []string
	for _, c := range pod.Spec.Containers {
		all = append(all, c.Name)
	}
	var inits, ephemeral []string
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, c.Name)
	}
	if name != "" {
		if slices.Contains(all, name) || slices.Contains(inits, name) || slices.Contains(ephemeral, name) {
			return name, nil
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	}
	if d := pod.Annotations["kubectl.kubernetes.io/default-container"]; slices.Contains(all, d) {
		return d, nil
	}
	text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(all, " "))
	if len(inits) > 0 {
		text += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(inits, " "))
	}
	return "", apierrors.NewBadRequest(text)
}

func (q *request) node(ctx context.Context, name string) (*corev1.Node, error) {
	def := object.Of[*corev1.Node](q.s.engine.Scheme())
	it, err := q.s.engine.Get(ctx, resource.Target{Kind: q.s.engine.Kind(def), Name: name}, 0)
	if err != nil {
		return nil, err
	}
	o, err := it.Shared()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return o.(*corev1.Node), nil
}

func nodeAddress(n *corev1.Node) (string, error) {
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeInternalDNS, corev1.NodeHostName} {
		for _, a := range n.Status.Addresses {
			if a.Type == want && a.Address != "" {
				return a.Address, nil
			}
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has reported no address", n.Name))
}

func agentPort(n *corev1.Node) int32 {
	if p := n.Status.DaemonEndpoints.KubeletEndpoint.Port; p != 0 {
		return p
	}
	return 10250
}

// agent passes the request on to a node's agent.
func (q *request) agent(n *corev1.Node, path, query string) error {
	if h := q.s.Nodes.Handler(n.Name); h != nil {
		r := q.r.Clone(q.r.Context())
		stripIdentity(r.Header)
		u, err := url.Parse(path)
		if err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		u.RawQuery = query
		r.URL, r.RequestURI = u, u.RequestURI()
		h.ServeHTTP(q.w, r)
		return nil
	}
	address, err := nodeAddress(n)
	if err != nil {
		return err
	}
	target := &url.URL{Scheme: "https", Host: net.JoinHostPort(address, strconv.Itoa(int(agentPort(n)))), RawQuery: query}
	return q.proxy(target, path, q.s.agentTransport())
}

// splitProxyName reads the name of a proxy subresource: [scheme:]name[:port].
func splitProxyName(id string) (scheme, name, port string, err error) {
	parts := strings.Split(id, ":")
	switch len(parts) {
	case 1:
		return "", parts[0], "", nil
	case 2:
		return "", parts[0], parts[1], nil
	case 3:
		if parts[0] == "" || parts[0] == "http" || parts[0] == "https" {
			return parts[0], parts[1], parts[2], nil
		}
	}
	return "", "", "", apierrors.NewBadRequest(fmt.Sprintf("invalid proxy request %q", id))
}

func (q *request) podProxy(t resource.Target) error {
	scheme, name, port, err := splitProxyName(t.Name)
	if err != nil {
		return err
	}
	if err := q.connect(t, &corev1.PodProxyOptions{Path: q.info.Rest}); err != nil {
		return err
	}
	main := t
	main.Subresource, main.Name = "", name
	it, err := q.s.engine.Get(q.r.Context(), main, 0)
	if err != nil {
		return err
	}
	o, err := it.Shared()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	pod := o.(*corev1.Pod)
	if port == "" {
		for _, c := range pod.Spec.Containers {
			if len(c.Ports) > 0 {
				port = strconv.Itoa(int(c.Ports[0].ContainerPort))
				break
			}
		}
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name != "" && p.Name == port {
				port = strconv.Itoa(int(p.ContainerPort))
			}
		}
	}
	if pod.Status.PodIP == "" {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("pod %s has no address yet", pod.Name))
	}
	if err := proxyable(pod.Status.PodIP); err != nil {
		return err
	}
	return q.forward(&url.URL{Scheme: cmpScheme(scheme), Host: net.JoinHostPort(pod.Status.PodIP, cmpPort(port, "80"))}, q.info.Rest)
}

// proxyable refuses addresses through which a pod could turn the API server
// against itself.
func proxyable(address string) error {
	ip := net.ParseIP(address)
	// The unspecified address is no global one either: the kernel takes it for the
	// loopback.
	if ip == nil || !ip.IsGlobalUnicast() {
		return apierrors.NewBadRequest("address not allowed")
	}
	return nil
}

// serviceProxy goes to one ready endpoint of a Service.
func (q *request) serviceProxy(t resource.Target) error {
	scheme, name, port, err := splitProxyName(t.Name)
	if err != nil {
		return err
	}
	if err := q.connect(t, &corev1.ServiceProxyOptions{Path: q.info.Rest}); err != nil {
		return err
	}
	ctx := q.r.Context()
	main := t
	main.Subresource, main.Name = "", name
	it, err := q.s.engine.Get(ctx, main, 0)
	if err != nil {
		return err
	}
	o, err := it.Shared()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	svc := o.(*corev1.Service)
	var wanted *corev1.ServicePort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if port == "" && (len(svc.Spec.Ports) == 1 || p.Name == "") || port != "" && (p.Name == port || strconv.Itoa(int(p.Port)) == port) {
			wanted = p
			break
		}
	}
	if wanted == nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, name))
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return q.forward(&url.URL{Scheme: cmpScheme(scheme), Host: net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(wanted.Port)))}, q.info.Rest)
	}
	def := object.Of[*discoveryv1.EndpointSlice](q.s.engine.Scheme())
	sel, err := object.ParseSelector(def, discoveryv1.LabelServiceName+"="+name, "")
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	slices, err := q.s.engine.List(ctx, resource.Target{Kind: q.s.engine.Kind(def), Namespace: t.Namespace}, resource.ListOptions{Selector: sel})
	if err != nil {
		return err
	}
	ready := sets.New[string]()
	for _, it := range slices.Items {
		o, err := it.Shared()
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		s := o.(*discoveryv1.EndpointSlice)
		for _, p := range s.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != wanted.Name {
				continue
			}
			for _, e := range s.Endpoints {
				if (e.Conditions.Ready == nil || *e.Conditions.Ready) && len(e.Addresses) > 0 {
					ready.Insert(net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	if ready.Len() == 0 {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", t.Name))
	}
	host, _ := ready.PopAny() // map order spreads the requests
	address, _, err := net.SplitHostPort(host)
	if err == nil {
		err = proxyable(address)
	}
	if err != nil {
		return err
	}
	return q.forward(&url.URL{Scheme: cmpScheme(scheme), Host: host}, q.info.Rest)
}
