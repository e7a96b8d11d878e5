package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// tenant makes a namespace whose service account may do everything in it, and
// returns how that account speaks to the server.
func (c *cluster) tenant(ctx context.Context, name string) (*rest.Config, error) {
	if err := c.namespace(ctx, name); err != nil {
		return nil, err
	}
	_, err := c.api.RbacV1().RoleBindings(name).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: name, Name: "default"}},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	token, err := c.api.CoreV1().ServiceAccounts(name).CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = token.Status.Token
	return config, nil
}

// measureFairness compares a tenant's p99 with that of a quiet server, while
// another tenant creates pods with 64 clients as fast as it can.
func measureFairness(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	const calls = 1000
	var times, quietly, flooded []float64
	for i := range runs {
		b.say("%d of %d", i+1, runs)
		err := b.with(ctx, func(c *cluster) error {
			one, err := c.tenant(ctx, "one")
			if err != nil {
				return err
			}
			two, err := c.tenant(ctx, "two")
			if err != nil {
				return err
			}
			tenant, err := newLoad(one, 1)
			if err != nil {
				return err
			}
			defer tenant.close()
			flood, err := newLoad(two, 64)
			if err != nil {
				return err
			}
			defer flood.close()
			body := asJSON(ordinaryPod())
			work := func(i int64) call {
				if i%2 == 0 {
					r := creating(jsonType, body)(i)
					r.path = "/api/v1/namespaces/one/pods"
					return r
				}
				return call{method: http.MethodGet, path: "/api/v1/namespaces/one/pods/" + podName(i-1), accept: jsonType}
			}
			quiet, err := tenant.run(ctx, numbered(0, work, upTo(calls)))
			if err != nil {
				return err
			}
			var over atomic.Bool
			done := make(chan error, 1)
			go func() {
				_, err := flood.run(ctx, numbered(0, func(i int64) call {
					r := creating(jsonType, body)(i)
					r.path = "/api/v1/namespaces/two/pods"
					return r
				}, func(int64) bool { return !over.Load() }))
				done <- err
			}()
			busy, err := tenant.run(ctx, numbered(calls, work, upTo(calls)))
			over.Store(true)
			if ferr := <-done; ferr != nil {
				return fmt.Errorf("the flood: %w", ferr)
			}
			if err != nil {
				return err
			}
			quietly, flooded = append(quietly, percentile(quiet, 99)), append(flooded, percentile(busy, 99))
			times = append(times, percentile(busy, 99)/percentile(quiet, 99))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	b.note = fmt.Sprintf("p99 %.1f ms on a quiet server, %.1f ms under the flood", median(quietly), median(flooded))

	return [][]float64{times}, nil
}
