package aggregator

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// managed is the label of the APIServices that the server makes itself: "onstart"
// for built-in groups, "true" for those of kinds made at run time.
const managed = "kube-aggregator.kubernetes.io/automanaged"

// registration is the controller that shows what this server answers for as
// APIServices, as upstream does.
type registration struct{ a *Aggregator }

// Registration returns the controller that keeps the local APIServices.
func (a *Aggregator) Registration() reconcile.Controller { return registration{a} }

func (registration) Name() string { return "apiservice-registration" }

func (c registration) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(c.a.services)}
}

func (c registration) Outputs() []reconcile.Output {
	return []reconcile.Output{{Kind: c.a.services.Definition().GVK().GroupKind(), Field: "local ones"}}
}

// Run implements reconcile.Runner.
func (c registration) Run(ctx context.Context, w client.Client, enqueue func(object.Key)) error {
	for {
		changed := w.Scheme().Changed()
		for gv := range local(w.Scheme()) {
			enqueue(object.Key{Name: gv.Version + "." + gv.Group})
		}
		for _, s := range c.a.services.All() {
			enqueue(object.KeyOf(s))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// local are the groups and versions in the scheme, with how they are managed.
func local(s *object.Scheme) map[schema.GroupVersion]string {
	all := map[schema.GroupVersion]string{}
	for _, d := range s.All() {
		how := "onstart"
		if d.Dynamic != nil {
			how = "true"
		}
		for _, v := range d.Versions() {
			if gv := v.GVK().GroupVersion(); all[gv] == "" {
				all[gv] = how
			}
		}
		for _, v := range d.Served {
			if gv := (schema.GroupVersion{Group: v.Group, Version: v.Version}); all[gv] == "" {
				all[gv] = how
			}
		}
	}
	return all
}

// Reconcile makes a missing APIService, and removes one whose kinds are gone.
func (c registration) Reconcile(ctx context.Context, w client.Client, key object.Key) (reconcile.Result, error) {
	version, group, _ := strings.Cut(key.Name, ".")
	gv := schema.GroupVersion{Group: group, Version: version}
	how, served := local(w.Scheme())[gv]
	s, has := c.a.services.Get("", key.Name)
	switch {
	case served && !has:
		first, second := priorities(gv)
		_, err := client.Create(ctx, w, &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: key.Name, Labels: map[string]string{managed: how}},
			Spec:       apiregistrationv1.APIServiceSpec{Group: group, Version: version, GroupPriorityMinimum: first, VersionPriority: second},
		})
		if apierrors.IsAlreadyExists(err) {
			err = nil
		}
		return reconcile.Result{}, err
	case !served && has && s.Spec.Service == nil && s.Labels[managed] != "":
		err := client.Delete[*apiregistrationv1.APIService](ctx, w, "", key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
		if apierrors.IsNotFound(err) {
			err = nil
		}
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, nil
}

// groupPriorities are upstream's, by which clients prefer groups.
var groupPriorities = map[string]int32{
	"": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600, "autoscaling": 17500,
	"batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100, "rbac.authorization.k8s.io": 17000,
	"storage.k8s.io": 16800, "apiextensions.k8s.io": 16700, "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600,
	"coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100,
	"resource.k8s.io": 16000, "storagemigration.k8s.io": 15900,
}

func priorities(gv schema.GroupVersion) (group, version int32) {
	group, ok := groupPriorities[gv.Group]
	switch {
	case !ok:
		return 1000, 100
	case gv.Group == "":
		return group, 1
	case gv == schema.GroupVersion{Group: "autoscaling", Version: "v2"}:
		return group, 30
	case strings.Contains(gv.Version, "alpha"):
		return group, 9
	case strings.Contains(gv.Version, "beta"):
		return group, 12
	}
	return group, 15
}
