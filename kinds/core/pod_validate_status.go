package core

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/podspec"
)

// The paths that every report of a status is checked at, made once.
var (
	statusPath                      = field.NewPath("status")
	conditionsPath                  = statusPath.Child("conditions")
	qosClassPath                    = statusPath.Child("qosClass")
	containerStatusesPath           = statusPath.Child("containerStatuses")
	initContainerStatusesPath       = statusPath.Child("initContainerStatuses")
	ephemeralContainerStatusesPath  = statusPath.Child("ephemeralContainerStatuses")
	resourceClaimStatusesPath       = statusPath.Child("resourceClaimStatuses")
	extendedResourceClaimStatusPath = statusPath.Child("extendedResourceClaimStatus")
	podIPsPath                      = statusPath.Child("podIPs")
	hostIPsPath                     = statusPath.Child("hostIPs")
)

func validatePodStatus(p, old *corev1.Pod) field.ErrorList {
	errs := annotationsFixed(p, old)
	for i, c := range p.Status.Conditions {
		if c.ObservedGeneration < 0 {
			errs = append(errs, field.Invalid(conditionsPath.Index(i).Child("observedGeneration"), c.ObservedGeneration, "must be a non-negative integer"))
		}
		switch c.Type {
		case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers:
		default:
			errs = append(errs, check.Rule(conditionsPath.Index(i).Child("Type"), string(c.Type), check.IsQualifiedName)...)
		}
	}
	if p.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(statusPath.Child("nodeName"), "may not be changed directly"))
	}
	if name := p.Status.NominatedNodeName; name != "" && name != old.Status.NominatedNodeName {
		errs = append(errs, check.Name(statusPath.Child("nominatedNodeName"), name, validation.NameIsDNSSubdomain)...)
		if old.Spec.NodeName != "" {
			errs = append(errs, field.Forbidden(statusPath.Child("nominatedNodeName"), "may not be set on pods that are already bound to a node"))
		}
	}
	if n := p.Status.ObservedGeneration; n < 0 {
		errs = append(errs, field.Invalid(statusPath.Child("observedGeneration"), n, "must be a non-negative integer"))
	}
	errs = append(errs, check.Immutable(qosClassPath, p.Status.QOSClass, old.Status.QOSClass)...)
	if !restartsAll(&old.Spec) {
		errs = append(errs, stayTerminated(p.Status.ContainerStatuses, old.Status.ContainerStatuses, old.Spec.Containers, &old.Spec, containerStatusesPath)...)
		errs = append(errs, stayTerminated(p.Status.InitContainerStatuses, old.Status.InitContainerStatuses, old.Spec.InitContainers, &old.Spec, initContainerStatusesPath)...)
	}
	errs = append(errs, stayTerminated(p.Status.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, nil, &old.Spec, ephemeralContainerStatusesPath)...)
	errs = append(errs, validateClaimStatuses(p, resourceClaimStatusesPath)...)
	errs = append(errs, validateExtendedClaim(p, extendedResourceClaimStatusPath)...)
	errs = append(errs, validatePodIPs(&p.Status, &old.Status, podIPsPath)...)
	errs = append(errs, validateHostIPs(&p.Status, &old.Status, hostIPsPath)...)
	lists := [...]struct {
		path     *field.Path
		statuses []corev1.ContainerStatus
	}{
		{containerStatusesPath, p.Status.ContainerStatuses}, {initContainerStatusesPath, p.Status.InitContainerStatuses},
		{ephemeralContainerStatusesPath, p.Status.EphemeralContainerStatuses},
	}
	for _, l := range lists {
		errs = append(errs, validateUsers(l.statuses, p.Spec.OS, l.path)...)
	}
	errs = append(errs, validateHealth(p.Status.ContainerStatuses, p.Spec.Containers, p.Status.ExtendedResourceClaimStatus, containerStatusesPath)...)
	errs = append(errs, validateHealth(p.Status.InitContainerStatuses, p.Spec.InitContainers, p.Status.ExtendedResourceClaimStatus, initContainerStatusesPath)...)
	for i, c := range p.Status.EphemeralContainerStatuses {
		if len(c.AllocatedResourcesStatus) > 0 {
			errs = append(errs, field.Forbidden(ephemeralContainerStatusesPath.Index(i).Child("allocatedResourcesStatus"), "must not be specified in container status"))
		}
	}
	for _, l := range lists {
		errs = append(errs, validateMountedImages(l.statuses, l.path)...)
	}
	return errs
}

// validatePodIPs checks the addresses of a pod: those which are new must be in
// the one form that all agree on.
func validatePodIPs(s, old *corev1.PodStatus, path *field.Path) (errs field.ErrorList) {
	if slices.Equal(s.PodIPs, old.PodIPs) {
		return nil
	}
	was, is := make([]string, len(old.PodIPs)), make([]string, len(s.PodIPs))
	for i := range was {
		was[i] = old.PodIPs[i].IP
	}
	for i := range is {
		is[i] = s.PodIPs[i].IP
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Index(i).Upstream(), is[i], true, was)...)
	}
	return append(errs, oneOfEachFamily(is, s.PodIPs, path)...)
}

func validateHostIPs(s, old *corev1.PodStatus, path *field.Path) (errs field.ErrorList) {
	if len(s.HostIPs) == 0 {
		return nil
	}
	if s.HostIP != s.HostIPs[0].IP {
		errs = append(errs, field.Invalid(path.Index(0).Child("ip"), s.HostIPs[0].IP, "must be equal to `hostIP`"))
	}
	if slices.Equal(s.HostIPs, old.HostIPs) {
		return errs
	}
	was, is := make([]string, len(old.HostIPs)), make([]string, len(s.HostIPs))
	for i := range was {
		was[i] = old.HostIPs[i].IP
	}
	for i := range is {
		is[i] = s.HostIPs[i].IP
		errs = append(errs, utilvalidation.IsValidIPForLegacyField(path.Index(i).Upstream(), is[i], true, was)...)
	}
	return append(errs, oneOfEachFamily(is, s.HostIPs, path)...)
}

// oneOfEachFamily refuses two addresses of a family.
func oneOfEachFamily(ips []string, shown any, path *field.Path) (errs field.ErrorList) {
	if len(ips) < 2 {
		return nil
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		errs = append(errs, field.InternalError(path, fmt.Errorf("failed to check for dual stack with error:%v", err)))
	}
	if !dual || len(ips) > 2 {
		errs = append(errs, field.Invalid(path, shown, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// restartsAll says whether one container's end can be the beginning of all.
func restartsAll(s *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range list {
			for _, r := range list[i].RestartPolicyRules {
				if r.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
					return true
				}
			}
		}
	}
	return false
}

// stayTerminated refuses that a container which is never restarted comes back
// from the dead. It blames the place of the old status.
func stayTerminated(now, was []corev1.ContainerStatus, specs []corev1.Container, s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	for i := range was {
		end := was[i].State.Terminated
		if end == nil {
			continue
		}
		k := slices.IndexFunc(now, func(n corev1.ContainerStatus) bool { return n.Name == was[i].Name && n.State.Terminated == nil })
		if k < 0 {
			continue
		}
		if c := slices.IndexFunc(specs, func(c corev1.Container) bool { return c.Name == was[i].Name }); c < 0 || !podspec.Restarts(&specs[c], s, end.ExitCode) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
		}
	}
	return errs
}

// validateUsers checks whom containers run as.
func validateUsers(statuses []corev1.ContainerStatus, os *corev1.PodOS, path *field.Path) (errs field.ErrorList) {
	for i := range statuses {
		if statuses[i].User == nil || statuses[i].User.Linux == nil {
			continue
		}
		u, p := statuses[i].User.Linux, path.Index(i).Child("user", "linux")
		if os != nil && os.Name == corev1.Windows {
			errs = append(errs, field.Forbidden(p, "cannot be set for a windows pod"))
			continue
		}
		for _, msg := range utilvalidation.IsValidUserID(u.UID) {
			errs = append(errs, field.Invalid(p.Child("uid"), u.UID, msg))
		}
		for _, msg := range utilvalidation.IsValidGroupID(u.GID) {
			errs = append(errs, field.Invalid(p.Child("gid"), u.GID, msg))
		}
		for j, id := range u.SupplementalGroups {
			for _, msg := range utilvalidation.IsValidGroupID(id) {
				errs = append(errs, field.Invalid(p.Child("supplementalGroups").Index(j), id, msg))
			}
		}
	}
	return errs
}

// validateMountedImages checks what containers have mounted of images.
func validateMountedImages(statuses []corev1.ContainerStatus, path *field.Path) (errs field.ErrorList) {
	const most = 256
	for i := range statuses {
		for j := range statuses[i].VolumeMounts {
			status := statuses[i].VolumeMounts[j].VolumeStatus
			if status == nil || status.Image == nil {
				continue
			}
			image := status.Image
			p := path.Index(i).Child("volumeMounts").Index(j).Child("volumeStatus", "imageVolumeStatus", "imageRef")
			if image.ImageRef == "" {
				errs = append(errs, field.Required(p, "imageRef must not be empty"))
			}
			if len(image.ImageRef) > most {
				errs = append(errs, field.TooLong(p, "", most))
			}
		}
	}
	return errs
}
