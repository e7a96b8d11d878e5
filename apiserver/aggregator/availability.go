package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/apiserver/discovery"
	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

const (
	// checkEvery is how often a server that is there is asked again, checkTime how
	// long it may take to answer, and maxDiscovery what it may say.
	checkEvery   = 30 * time.Second
	checkTime    = 5 * time.Second
	maxDiscovery = 4 << 20
	// attempts is how often a server is asked before it counts as gone.
	attempts = 5
)

// availability is the controller that asks whether the other servers are there.
type availability struct{ a *Aggregator }

// Availability returns the controller that keeps the condition Available.
func (a *Aggregator) Availability() reconcile.Controller { return availability{a} }

func (availability) Name() string { return "apiservice-availability" }

func (c availability) Inputs() []reconcile.Input {
	users := func(namespace, name string, enqueue func(object.Key)) {
		c.a.mu.RLock()
		defer c.a.mu.RUnlock()
		for _, r := range c.a.routes {
			if ref := r.service.Spec.Service; ref.Namespace == namespace && ref.Name == name {
				enqueue(object.KeyOf(r.service))
			}
		}
	}
	return []reconcile.Input{
		reconcile.Self(c.a.services),
		reconcile.On(c.a.targets, func(old, new *corev1.Service, enqueue func(object.Key)) {
			if new == nil {
				new = old
			}
			users(new.Namespace, new.Name, enqueue)
		}),
		reconcile.On(c.a.slices, func(old, new *discoveryv1.EndpointSlice, enqueue func(object.Key)) {
			if new == nil {
				new = old
			}
			users(new.Namespace, new.Labels[discoveryv1.LabelServiceName], enqueue)
		}),
	}
}

func (c availability) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.a.services.Definition().GVK().GroupKind(), Field: "status"}}
}

// Reconcile checks one APIService.
func (c availability) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	s, ok := c.a.services.Get("", key.Name)
	if !ok || s.Spec.Service == nil {
		return reconcile.Result{}, nil
	}
	cond := apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: metav1.Now(), Reason: "Passed", Message: "all checks passed",
	}
	if reason, message := c.unreachable(s); reason != "" {
		cond.Status, cond.Reason, cond.Message = apiregistrationv1.ConditionFalse, reason, message
	}
	after := time.Duration(0) // a missing Service is seen when it comes
	if cond.Status == apiregistrationv1.ConditionTrue {
		after = checkEvery
		r := c.a.route(versionOf(s))
		if r == nil {
			return reconcile.Result{}, nil
		}
		serves, err := askAny(ctx, r)
		c.a.learn(s, serves, err)
		if err != nil {
			cond.Status, cond.Reason, cond.Message = apiregistrationv1.ConditionFalse, "FailedDiscoveryCheck", err.Error()
			after = min(time.Second<<min(r.failures, 5), checkEvery)
		}
	}
	if cond.Status == apiregistrationv1.ConditionFalse && c.a.o.Unavailable != nil && isAvailable(s) {
		c.a.o.Unavailable(s.Name, cond.Reason)
	}
	next := *s
	next.Status.Conditions = set(s.Status.Conditions, cond)
	if equality.Semantic.DeepEqual(next.Status, s.Status) {
		return reconcile.Result{After: after}, nil
	}
	_, err := client.UpdateStatus(ctx, w, &next)
	return reconcile.Result{After: after}, err
}

func isAvailable(s *apiregistrationv1.APIService) bool {
	return slices.ContainsFunc(s.Status.Conditions, func(c apiregistrationv1.APIServiceCondition) bool {
		return c.Type == apiregistrationv1.Available && c.Status == apiregistrationv1.ConditionTrue
	})
}

// unreachable says what is missing between an APIService and its server.
func (c availability) unreachable(s *apiregistrationv1.APIService) (reason, message string) {
	ref := s.Spec.Service
	service, ok := c.a.targets.Get(ref.Namespace, ref.Name)
	if !ok {
		return "ServiceNotFound", fmt.Sprintf("service/%s in %q is not present", ref.Name, ref.Namespace)
	}
	if service.Spec.Type != corev1.ServiceTypeClusterIP {
		return "", ""
	}
	at := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == portOf(s) })
	if at < 0 {
		return "ServicePortError", fmt.Sprintf("service/%s in %q is not listening on port %d", ref.Name, ref.Namespace, portOf(s))
	}
	name := service.Spec.Ports[at].Name
	all := c.a.slices.By("service", ref.Namespace+"/"+ref.Name)
	if len(all) == 0 {
		return "EndpointsNotFound", fmt.Sprintf("cannot find endpointslices for service/%s in %q", ref.Name, ref.Namespace)
	}
	if !slices.ContainsFunc(all, func(s *discoveryv1.EndpointSlice) bool {
		return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }) &&
			slices.ContainsFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return p.Name != nil && *p.Name == name && p.Port != nil })
	}) {
		return "MissingEndpoints", fmt.Sprintf("endpointslices for service/%s in %q have no addresses with port name %q", ref.Name, ref.Namespace, name)
	}
	return "", ""
}

// set replaces a condition; the time of one that is as before stays.
func set(all []apiregistrationv1.APIServiceCondition, c apiregistrationv1.APIServiceCondition) []apiregistrationv1.APIServiceCondition {
	all = slices.Clone(all)
	for i := range all {
		if all[i].Type == c.Type {
			if all[i].Status == c.Status {
				c.LastTransitionTime = all[i].LastTransitionTime
			}
			all[i] = c
			return all
		}
	}
	return append(all, c)
}

// learn keeps what a server said that it serves.
func (a *Aggregator) learn(s *apiregistrationv1.APIService, serves []discovery.Resource, err error) {
	a.mu.Lock()
	r := a.routes[versionOf(s)]
	changed := false
	switch {
	case r == nil:
	case err != nil:
		r.failures++
	default:
		r.failures = 0
		changed = !r.known || !reflect.DeepEqual(r.serves, serves)
		r.serves, r.known = serves, true
	}
	a.mu.Unlock()
	if changed {
		a.o.Changed()
	}
}

// askAny asks until one endpoint answers: a server is there as long as one of its
// endpoints is. All but the first are asked at the same time.
func askAny(ctx context.Context, r *route) ([]discovery.Resource, error) {
	serves, err := ask(ctx, r)
	var nowhere unresolved
	if err == nil || r.err != nil || errors.As(err, &nowhere) {
		return serves, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		serves []discovery.Resource
		err    error
	}
	answers := make(chan answer, attempts-1)
	for range attempts - 1 {
		go func() {
			serves, err := ask(ctx, r)
			answers <- answer{serves, err}
		}()
	}
	for range attempts - 1 {
		a := <-answers
		if a.err == nil {
			return a.serves, nil
		}
		err = a.err
	}
	return nil, err
}

// ask asks a server what it serves, with the rights to see all.
func ask(ctx context.Context, r *route) ([]discovery.Resource, error) {
	if r.err != nil {
		return nil, r.err
	}
	s := r.service
	at := "https://" + host(s) + "/apis/" + s.Spec.Group + "/" + s.Spec.Version
	if s.Spec.Group == "" {
		at = "https://" + host(s) + "/api/" + s.Spec.Version
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	identify(req.Header, &user.DefaultInfo{Name: "system:kube-aggregator", Groups: []string{user.SystemPrivilegedGroup}})
	resp, err := r.transport.RoundTrip(req) // no redirect is followed
	if err != nil {
		var nowhere unresolved
		if errors.As(err, &nowhere) {
			return nil, nowhere
		}
		r.transport.CloseIdleConnections()
		return nil, fmt.Errorf("failing or missing response from %s: %w", at, &url.Error{Op: "Get", URL: at, Err: err})
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, fmt.Errorf("failing or missing response from %s: bad status from %s: %d", at, at, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDiscovery))
	if err != nil {
		return nil, fmt.Errorf("failing or missing response from %s: %w", at, err)
	}
	return Resources(body), nil
}

// Resources reads a server's list of resources. One that cannot be read is empty:
// the server is there, and may be asked for what clients know anyway.
func Resources(body []byte) []discovery.Resource {
	var list metav1.APIResourceList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil
	}
	return list.APIResources
}
