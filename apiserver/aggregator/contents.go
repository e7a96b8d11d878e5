package aggregator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/discovery"
)

// Contents is what other servers still keep in a namespace.
type Contents struct {
	// Counts and Finalizers say how many objects there are of "flunders.example.com",
	// and how many have a finalizer.
	Counts, Finalizers map[string]int
	// Unknown are the versions whose servers cannot be asked what they serve.
	Unknown []schema.GroupVersion
	// Failures say what could not be listed or deleted.
	Failures []string
}

// namespaceController is whom other servers give the right to empty namespaces.
var namespaceController = &user.DefaultInfo{
	Name:   "system:serviceaccount:kube-system:namespace-controller",
	Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", user.AllAuthenticated},
}

// Empty deletes what other servers keep in a namespace and returns what is left.
func (a *Aggregator) Empty(ctx context.Context, namespace string) Contents {
	out := Contents{Counts: map[string]int{}, Finalizers: map[string]int{}}
	a.mu.RLock()
	routes := make([]*route, 0, len(a.routes))
	for gv, r := range a.routes {
		if !r.known || !r.available() || r.err != nil {
			out.Unknown = append(out.Unknown, gv)
			continue
		}
		routes = append(routes, r)
	}
	a.mu.RUnlock()
	slices.SortFunc(out.Unknown, func(a, b schema.GroupVersion) int { return cmp.Compare(a.String(), b.String()) })
	for _, r := range routes {
		for _, res := range r.serves {
			if !res.Namespaced || strings.Contains(res.Name, "/") || !slices.Contains(res.Verbs, "delete") || !slices.Contains(res.Verbs, "list") {
				continue
			}
			name := schema.GroupResource{Group: r.service.Spec.Group, Resource: res.Name}.String()
			if err := r.empty(ctx, namespace, res, name, &out); err != nil {
				out.Failures = append(out.Failures, fmt.Sprintf("cannot empty %s: %v", name, err))
			}
		}
	}
	return out
}

// empty deletes the objects of one kind and counts what stays.
func (r *route) empty(ctx context.Context, namespace string, res discovery.Resource, name string, out *Contents) error {
	at := "/apis/" + versionOf(r.service).String() + "/namespaces/" + url.PathEscape(namespace) + "/" + res.Name
	found, err := r.metadata(ctx, at)
	if err != nil || len(found) == 0 {
		return err
	}
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}, PropagationPolicy: &background}
	if slices.Contains(res.Verbs, "deletecollection") {
		if err := r.call(ctx, http.MethodDelete, at, options, nil); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	} else {
		for i := range found {
			one := options
			one.Preconditions = &metav1.Preconditions{UID: &found[i].UID}
			if found[i].DeletionTimestamp != nil {
				continue
			}
			if err := r.call(ctx, http.MethodDelete, at+"/"+url.PathEscape(found[i].Name), one, nil); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return err
			}
		}
	}
	if found, err = r.metadata(ctx, at); err != nil {
		return err
	}
	for _, o := range found {
		out.Counts[name]++
		for _, f := range o.Finalizers {
			out.Finalizers[f]++
		}
	}
	return nil
}

// metadata lists what there is at a path, page by page.
func (r *route) metadata(ctx context.Context, at string) ([]metav1.PartialObjectMetadata, error) {
	var all []metav1.PartialObjectMetadata
	for next := ""; ; {
		var page metav1.PartialObjectMetadataList
		if err := r.call(ctx, http.MethodGet, at+"?limit=500&continue="+url.QueryEscape(next), nil, &page); err != nil {
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				return all, nil // a kind that has just gone
			}
			return nil, err
		}
		all = append(all, page.Items...)
		if next = page.Continue; next == "" {
			return all, nil
		}
	}
}

// maxContents bounds an answer of another server, in bytes.
const maxContents = 64 << 20

// call speaks to the server as the namespace controller.
func (r *route) call(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+host(r.service)+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	identify(req.Header, namespaceController)
	resp, err := r.transport.RoundTrip(req) // no redirect is followed
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxContents))
	switch {
	case err != nil:
		return err
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		var s metav1.Status
		if json.Unmarshal(b, &s) == nil && s.Kind == "Status" {
			return &apierrors.StatusError{ErrStatus: s}
		}
		return apierrors.NewGenericServerResponse(resp.StatusCode, method, schema.GroupResource{}, "", "", 0, false)
	case into == nil:
		return nil
	}
	return json.Unmarshal(b, into)
}
