// Command operator is what somebody's operator looks like, written with
// controller-runtime: for each Site it keeps a ConfigMap and a Deployment, writes
// the Site's status, and holds it with a finalizer until it has cleaned up.
package main

import (
	"context"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// finalizer holds a Site until its name is off the list of sites.
const finalizer = "example.org/listed"

func main() {
	ctrl.SetLogger(zap.New())
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	scheme.AddKnownTypes(groupVersion, &Site{}, &SiteList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                  scheme,
		LeaderElection:          true,
		LeaderElectionID:        "site-operator",
		LeaderElectionNamespace: "default",
		Metrics:                 server.Options{BindAddress: "0"},
		// It ends with its manager, so the next one need not wait.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &Site{}, "spec.image", func(o client.Object) []string {
		return []string{o.(*Site).Spec.Image}
	}); err != nil {
		return err
	}
	r := &sites{Client: mgr.GetClient(), events: mgr.GetEventRecorder("site-operator")}
	if err := ctrl.NewControllerManagedBy(mgr).
		For(&Site{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&appsv1.Deployment{}).
		Complete(r); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

type sites struct {
	client.Client
	events events.EventRecorder
}

// Reconcile makes what a Site asks for.
func (r *sites) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var site Site
	if err := r.Get(ctx, req.NamespacedName, &site); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !site.DeletionTimestamp.IsZero() {
		if !controllerutil.ContainsFinalizer(&site, finalizer) {
			return ctrl.Result{}, nil
		}
		if err := r.list(ctx, site.Namespace, func(names map[string]string) { delete(names, site.Name) }); err != nil {
			return ctrl.Result{}, err
		}
		patch := client.MergeFromWithOptions(site.DeepCopyObject().(*Site), client.MergeFromWithOptimisticLock{})
		controllerutil.RemoveFinalizer(&site, finalizer)
		return ctrl.Result{}, client.IgnoreNotFound(r.Patch(ctx, &site, patch))
	}
	if controllerutil.AddFinalizer(&site, finalizer) {
		return ctrl.Result{}, r.Update(ctx, &site)
	}
	if err := r.list(ctx, site.Namespace, func(names map[string]string) { names[site.Name] = site.Spec.Image }); err != nil {
		return ctrl.Result{}, err
	}
	page := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: site.Namespace, Name: site.Name}}
	made, err := controllerutil.CreateOrUpdate(ctx, r.Client, page, func() error {
		page.Data = map[string]string{"page": site.Spec.Text}
		return controllerutil.SetControllerReference(&site, page, r.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if made == controllerutil.OperationResultCreated {
		r.events.Eventf(&site, page, corev1.EventTypeNormal, "Published", "Publish", "the page of %s is there", site.Name)
	}
	if err := r.Apply(ctx, deployment(&site), client.FieldOwner("site-operator"), client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.report(ctx, &site)
}

// report writes the Site's status from its Deployment's.
func (r *sites) report(ctx context.Context, site *Site) error {
	var d appsv1.Deployment
	if err := r.Get(ctx, client.ObjectKeyFromObject(site), &d); err != nil {
		return client.IgnoreNotFound(err) // the cache has it soon, and says so
	}
	// Others of the same image, by an index of the cache.
	var same SiteList
	if err := r.List(ctx, &same, client.InNamespace(site.Namespace), client.MatchingFields{"spec.image": site.Spec.Image}); err != nil {
		return err
	}
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Starting", ObservedGeneration: site.Generation}
	if d.Status.ObservedGeneration >= d.Generation && d.Status.ReadyReplicas == site.Spec.Copies && d.Status.Replicas == site.Spec.Copies {
		ready.Status, ready.Reason = metav1.ConditionTrue, "Serving"
	}
	before := site.DeepCopyObject().(*Site)
	changed := meta.SetStatusCondition(&site.Status.Conditions, ready)
	if site.Status.Ready != d.Status.ReadyReplicas || site.Status.Alike != int32(len(same.Items)) {
		site.Status.Ready, site.Status.Alike, changed = d.Status.ReadyReplicas, int32(len(same.Items)), true
	}
	if !changed {
		return nil
	}
	return r.Status().Patch(ctx, site, client.MergeFrom(before))
}

// list changes the namespace's list of sites, which all of them share, by updates
// that fail when somebody else was faster.
func (r *sites) list(ctx context.Context, namespace string, change func(map[string]string)) error {
	all := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "sites"}}
	err := r.Get(ctx, client.ObjectKeyFromObject(&all), &all)
	absent := apierrors.IsNotFound(err)
	if err != nil && !absent {
		return err
	}
	data := map[string]string{}
	for k, v := range all.Data {
		data[k] = v
	}
	change(data)
	if fmt.Sprint(data) == fmt.Sprint(all.Data) {
		return nil
	}
	all.Data = data
	if absent {
		return r.Create(ctx, &all)
	}
	return r.Update(ctx, &all)
}

// deployment is what a Site runs, as a configuration to apply.
func deployment(site *Site) *appsapply.DeploymentApplyConfiguration {
	labels := map[string]string{"site": site.Name}
	owner := metaapply.OwnerReference().
		WithAPIVersion(groupVersion.String()).WithKind("Site").
		WithName(site.Name).WithUID(site.UID).
		WithController(true).WithBlockOwnerDeletion(true)
	return appsapply.Deployment(site.Name, site.Namespace).
		WithOwnerReferences(owner).
		WithSpec(appsapply.DeploymentSpec().
			WithReplicas(site.Spec.Copies).
			WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).
			WithTemplate(coreapply.PodTemplateSpec().
				WithLabels(labels).
				WithSpec(coreapply.PodSpec().
					WithTerminationGracePeriodSeconds(1).
					WithContainers(coreapply.Container().WithName("web").WithImage(site.Spec.Image)))))
}
