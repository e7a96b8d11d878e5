package resource

import (
	"context"
	"slices"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

// allocated names a device, or a share of one, that a claim has.
type allocated struct{ driver, pool, device, share string }

func (a allocated) String() string {
	s := a.driver + "/" + a.pool + "/" + a.device
	if a.share != "" {
		s += "/" + a.share
	}
	return s
}

// dropGivenBack removes the status of devices that a write takes from the claim.
func dropGivenBack(_ context.Context, c, old *resourcev1.ResourceClaim) {
	if len(c.Status.Devices) == 0 || old.Status.Allocation == nil {
		return
	}
	var had, has map[allocated]bool
	for _, a := range []struct {
		from *resourcev1.AllocationResult
		to   *map[allocated]bool
	}{{old.Status.Allocation, &had}, {c.Status.Allocation, &has}} {
		*a.to = map[allocated]bool{}
		if a.from != nil {
			for _, r := range a.from.Devices.Results {
				(*a.to)[allocated{r.Driver, r.Pool, r.Device, ""}] = true
			}
		}
	}
	var left []resourcev1.AllocatedDeviceStatus
	for _, d := range c.Status.Devices {
		if id := (allocated{d.Driver, d.Pool, d.Device, ""}); !had[id] || has[id] {
			left = append(left, d)
		}
	}
	c.Status.Devices = left
}

func validateClaimStatus(c, old *resourcev1.ResourceClaim) field.ErrorList {
	path, s := field.NewPath("status"), &c.Status
	p := path.Child("reservedFor")
	errs := each(s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, p, func(r *resourcev1.ResourceClaimConsumerReference, p *field.Path) field.ErrorList {
		errs := check.Required(p.Child("resource"), r.Resource, "")
		errs = append(errs, check.Required(p.Child("name"), r.Name, "")...)
		return append(errs, check.Required(p.Child("uid"), string(r.UID), "")...)
	})
	devices := map[allocated]bool{}
	if s.Allocation != nil {
		for _, r := range s.Allocation.Devices.Results {
			id := allocated{r.Driver, r.Pool, r.Device, ""}
			if r.ShareID != nil {
				id.share = string(*r.ShareID)
			}
			devices[id] = true
		}
	}
	errs = append(errs, each(s.Devices, len(s.Devices), path.Child("devices"), func(d *resourcev1.AllocatedDeviceStatus, p *field.Path) field.ErrorList {
		return validateDeviceStatus(d, devices, p)
	})...)
	switch {
	case len(s.ReservedFor) > 0 && s.Allocation == nil:
		errs = append(errs, field.Forbidden(p, "may not be specified when `allocated` is not set"))
	case c.DeletionTimestamp != nil && slices.ContainsFunc(s.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool {
		return !slices.Contains(old.Status.ReservedFor, r)
	}):
		errs = append(errs, field.Forbidden(p, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
	}
	// An allocation that was there before cannot change, so only a new one is
	// looked at.
	if s.Allocation != nil && old.Status.Allocation == nil {
		errs = append(errs, validateAllocation(s.Allocation, namesOf(&c.Spec.Devices), path.Child("allocation"))...)
	}
	return append(errs, enforced(resourcev1.Validate_ResourceClaimStatus(context.Background(), update, path.Upstream(), s, &old.Status))...)
}

func validateAllocation(a *resourcev1.AllocationResult, names requestNames, path *field.Path) field.ErrorList {
	p := path.Child("devices")
	errs := each(a.Devices.Results, resourcev1.AllocationResultsMaxSize, p.Child("results"), func(r *resourcev1.DeviceRequestAllocationResult, p *field.Path) field.ErrorList {
		errs := names.refers(&r.Request, p.Child("request"))
		errs = append(errs, check.Rule(p.Child("device"), r.Device, validation.IsDNS1123Label)...)
		return append(errs, validateBindingConditions(r.BindingConditions, r.BindingFailureConditions, p)...)
	})
	errs = append(errs, each(a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize, p.Child("config"), func(c *resourcev1.DeviceAllocationConfiguration, p *field.Path) field.ErrorList {
		errs := each(c.Requests, resourcev1.DeviceRequestsMaxSize, p.Child("requests"), names.refers)
		return append(errs, validateConfig(&c.DeviceConfiguration, p, false)...)
	})...)
	if a.NodeSelector != nil {
		errs = append(errs, podspec.ValidateNodeSelector(a.NodeSelector, path.Child("nodeSelector"))...)
	}
	return errs
}

func validateDeviceStatus(d *resourcev1.AllocatedDeviceStatus, devices map[allocated]bool, p *field.Path) field.ErrorList {
	errs := podspec.ValidateDriverName(d.Driver, p.Child("driver"))
	errs = append(errs, validatePoolName(d.Pool, p.Child("pool"))...)
	errs = append(errs, check.Rule(p.Child("device"), d.Device, validation.IsDNS1123Label)...)
	id := allocated{d.Driver, d.Pool, d.Device, ""}
	if d.ShareID != nil {
		id.share = *d.ShareID
	}
	if !devices[id] {
		errs = append(errs, field.Invalid(p, id.String(), "must be an allocated device in the claim"))
	}
	errs = append(errs, validateConditions(d.Conditions, resourcev1.AllocatedDeviceStatusMaxConditions, p.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		errs = append(errs, validateRaw(d.Data, p.Child("data"), false, resourcev1.AllocatedDeviceStatusDataMaxLength)...)
	}
	if n := d.NetworkData; n != nil {
		errs = append(errs, each(n.IPs, resourcev1.NetworkDeviceDataMaxIPs, p.Child("networkData", "ips"), func(ip *string, p *field.Path) field.ErrorList {
			return validation.IsValidInterfaceAddress(p.Upstream(), *ip)
		})...)
	}
	return errs
}

func validateConditions(list []metav1.Condition, most int, p *field.Path) (errs field.ErrorList) {
	if len(list) > most {
		errs = append(errs, field.TooMany(p, len(list), most))
	}
	return append(errs, metav1validation.ValidateConditions(list, p.Upstream())...)
}

// validateBindingConditions checks the conditions that a device's binding waits
// for, and those that end it.
func validateBindingConditions(wanted, failures []string, p *field.Path) field.ErrorList {
	at, failed := p.Child("bindingConditions"), p.Child("bindingFailureConditions")
	name := func(s *string, p *field.Path) field.ErrorList {
		return metav1validation.ValidateLabelName(*s, p.Upstream())
	}
	errs := each(wanted, resourcev1.BindingConditionsMaxSize, at, name)
	errs = append(errs, each(failures, resourcev1.BindingFailureConditionsMaxSize, failed, name)...)
	for i, c := range wanted {
		if slices.Contains(wanted[:i], c) {
			errs = append(errs, field.Duplicate(at.Index(i), c))
		}
	}
	for i, c := range failures {
		if slices.Contains(failures[:i], c) {
			errs = append(errs, field.Duplicate(failed.Index(i), c))
		}
		if slices.Contains(wanted, c) {
			errs = append(errs, field.Invalid(failed.Index(i), c, "bindingFailureConditions must not overlap with bindingConditions"))
		}
	}
	switch {
	case len(wanted) == 0 && len(failures) > 0:
		errs = append(errs, field.Invalid(at, wanted, "bindingConditions are required to use bindingFailureConditions"))
	case len(failures) == 0 && len(wanted) > 0:
		errs = append(errs, field.Invalid(failed, failures, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}

// validatePoolName checks subdomains separated by slashes.
func validatePoolName(name string, p *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(p, "")}
	}
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(p, "", resourcev1.PoolNameMaxLength))
	}
	for _, part := range strings.Split(name, "/") {
		errs = append(errs, check.Rule(p, part, validation.IsDNS1123Subdomain)...)
	}
	return errs
}
