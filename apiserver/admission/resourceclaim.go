package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/resource"
	"sagong/client"
)

// ResourceClaim is what upstream checks of claims beside their form: namespaces
// where devices may be used without regard to others, and who may bind a claim
// or speak for a driver in its status.
type ResourceClaim struct {
	Client     client.Client
	Authorizer authorizer.UnconditionalAuthorizer
}

// Name implements Plugin.
func (ResourceClaim) Name() string { return "ResourceClaim" }

// Validate implements Validator.
func (r ResourceClaim) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Definition.Group != resourcev1.GroupName {
		return nil
	}
	var errs field.ErrorList
	switch o := a.Object.(type) {
	case *resourcev1.ResourceClaimTemplate:
		if a.Operation == resource.Create {
			errs = r.requested(ctx, a.Namespace, o.Spec.Spec.Devices.Requests)
		}
	case *resourcev1.ResourceClaim:
		old, _ := a.Old.(*resourcev1.ResourceClaim)
		switch {
		case a.Operation == resource.Create:
			errs = r.requested(ctx, a.Namespace, o.Spec.Devices.Requests)
		case a.Subresource == "status" && old != nil:
			errs = r.granted(ctx, a.Namespace, &o.Status, &old.Status)
			errs = append(errs, r.binding(ctx, a, &o.Status, &old.Status)...)
			errs = append(errs, r.drivers(ctx, a, &o.Status, &old.Status)...)
		}
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(a.Definition.GVK().GroupKind(), a.Name, errs)
	}
	return nil
}

// requested refuses requests for admin access outside the namespaces for it.
func (r ResourceClaim) requested(ctx context.Context, namespace string, list []resourcev1.DeviceRequest) field.ErrorList {
	i := slices.IndexFunc(list, func(q resourcev1.DeviceRequest) bool {
		return q.Exactly != nil && q.Exactly.AdminAccess != nil && *q.Exactly.AdminAccess
	})
	if i < 0 {
		return nil
	}
	return r.forAdmins(ctx, namespace, field.NewPath("spec", "devices", "requests").Index(i).Child("adminAccess"))
}

// granted does the same for what is allocated.
func (r ResourceClaim) granted(ctx context.Context, namespace string, now, was *resourcev1.ResourceClaimStatus) field.ErrorList {
	first := func(s *resourcev1.ResourceClaimStatus) int {
		if s.Allocation == nil {
			return -1
		}
		return slices.IndexFunc(s.Allocation.Devices.Results, func(x resourcev1.DeviceRequestAllocationResult) bool { return x.AdminAccess != nil && *x.AdminAccess })
	}
	i := first(now)
	if i < 0 || first(was) >= 0 {
		return nil
	}
	return r.forAdmins(ctx, namespace, field.NewPath("status", "allocation", "devices", "results").Index(i).Child("adminAccess"))
}

func (r ResourceClaim) forAdmins(ctx context.Context, namespace string, path *field.Path) field.ErrorList {
	ns, err := client.Get[*corev1.Namespace](ctx, r.Client, "", namespace)
	if err != nil {
		return field.ErrorList{field.InternalError(path, fmt.Errorf("could not retrieve namespace to verify admin access: %w", err))}
	}
	if ns.Labels[resourcev1.DRAAdminNamespaceLabelKey] != "true" {
		return field.ErrorList{field.Forbidden(path, fmt.Sprintf("admin access to devices requires the `%s: true` label on the containing namespace", resourcev1.DRAAdminNamespaceLabelKey))}
	}
	return nil
}

// binding asks more of who allocates or reserves than that they may write the
// status.
func (r ResourceClaim) binding(ctx context.Context, a *resource.Attributes, now, was *resourcev1.ResourceClaimStatus) field.ErrorList {
	if equality.Semantic.DeepEqual(now.Allocation, was.Allocation) && equality.Semantic.DeepEqual(now.ReservedFor, was.ReservedFor) {
		return nil
	}
	if err := r.may(ctx, a, verbOf(a), resourcev1.SubresourceBinding, "", ""); err != nil {
		return field.ErrorList{field.Forbidden(field.NewPath("status"),
			fmt.Sprintf(`changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="%s" permission: %s`, verbOf(a), err))}
	}
	return nil
}

// drivers asks for the right to speak for each driver whose devices' status
// changes: on any node, or on the writer's own.
func (r ResourceClaim) drivers(ctx context.Context, a *resource.Attributes, now, was *resourcev1.ResourceClaimStatus) (errs field.ErrorList) {
	if len(now.Devices)+len(was.Devices) == 0 {
		return nil
	}
	verbs := []string{resourcev1.VerbPrefixArbitraryNode + verbOf(a)}
	if node := onlyNode(now.Allocation); node != "" && nodeOf(a.User) == node {
		verbs = []string{resourcev1.VerbPrefixAssociatedNode + verbOf(a), verbs[0]}
	}
	for _, driver := range changedDrivers(now.Devices, was.Devices) {
		var first error
		for _, verb := range verbs {
			err := r.may(ctx, a, verb, resourcev1.SubresourceDriver, a.Namespace, driver)
			if err == nil {
				first = nil
				break
			}
			if first == nil {
				first = err
			}
		}
		if first != nil {
			errs = append(errs, field.Forbidden(field.NewPath("status", "devices"),
				fmt.Sprintf(`changing status.devices requires resource="resourceclaims/driver", verb="%s" permission: %s`, verbs, first)))
		}
	}
	return errs
}

// changedDrivers are those of entries that came, went or changed, in order.
func changedDrivers(now, was []resourcev1.AllocatedDeviceStatus) (names []string) {
	same := func(x *resourcev1.AllocatedDeviceStatus) func(resourcev1.AllocatedDeviceStatus) bool {
		return func(o resourcev1.AllocatedDeviceStatus) bool { return equality.Semantic.DeepEqual(*x, o) }
	}
	for _, lists := range [][2][]resourcev1.AllocatedDeviceStatus{{now, was}, {was, now}} {
		for i := range lists[0] {
			if !slices.ContainsFunc(lists[1], same(&lists[0][i])) {
				names = append(names, lists[0][i].Driver)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// verbOf is the verb asked about: a patch is the update that it comes to.
func verbOf(a *resource.Attributes) string {
	if _, ok := a.Options.(*metav1.PatchOptions); ok {
		return "patch"
	}
	return "update"
}

// may returns nil, or why the writer may not.
func (r ResourceClaim) may(ctx context.Context, a *resource.Attributes, verb, subresource, namespace, name string) error {
	rec := authorizer.AttributesRecord{
		User: a.User, Verb: verb, APIGroup: resourcev1.GroupName, APIVersion: a.Definition.Version, Resource: "resourceclaims", Subresource: subresource,
		Namespace: namespace, Name: name, ResourceRequest: true,
	}
	decision, reason, err := r.Authorizer.Authorize(ctx, rec)
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		reason = err.Error() + reason
	}
	who := ""
	if a.User != nil {
		who = a.User.GetName()
	}
	where := " at the cluster scope"
	if namespace != "" {
		where = fmt.Sprintf(" in the namespace %q", namespace)
	}
	why := fmt.Sprintf(`User %q cannot %s resource "resourceclaims/%s" in API group %q%s`, who, verb, subresource, resourcev1.GroupName, where)
	if reason != "" {
		why += ": " + reason
	}
	return apierrors.NewForbidden(resourcev1.Resource("resourceclaims/"+subresource), name, fmt.Errorf("%s", why))
}

// onlyNode is the node that an allocation is confined to, "" for none.
func onlyNode(a *resourcev1.AllocationResult) string {
	if a == nil || a.NodeSelector == nil || len(a.NodeSelector.NodeSelectorTerms) != 1 {
		return ""
	}
	t := &a.NodeSelector.NodeSelectorTerms[0]
	if len(t.MatchExpressions) != 0 || len(t.MatchFields) != 1 {
		return ""
	}
	f := &t.MatchFields[0]
	if f.Key != metav1.ObjectNameField || f.Operator != corev1.NodeSelectorOpIn || len(f.Values) != 1 {
		return ""
	}
	return f.Values[0]
}

// nodeOf is the node that a service account's token is bound to.
func nodeOf(u user.Info) string {
	if u == nil {
		return ""
	}
	if _, _, err := serviceaccount.SplitUsername(u.GetName()); err != nil {
		return ""
	}
	if names := u.GetExtra()[serviceaccount.NodeNameKey]; len(names) == 1 {
		return names[0]
	}
	return ""
}
