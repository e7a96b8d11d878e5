package aggregator

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/apiserver/discovery"
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
		if d.Group == apiregistrationv1.GroupName { // which is there without one
			continue
		}
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
		first, second := discovery.Priorities(gv)
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
