package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	helpers "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/storage/volume"

	"sagong/kinds/podspec"
	"sagong/object"
)

// measure says what objects of a kind use of a quota.
type measure struct {
	// names reports whether the kind uses a resource of this name.
	names func(corev1.ResourceName) bool
	// usage is what an object uses. Its values are fresh.
	usage func(o object.Object, now time.Time) corev1.ResourceList
	// scope reports whether an object lies within a scope; nil for a kind that no
	// scope knows.
	scope func(o object.Object, s corev1.ScopedResourceSelectorRequirement) bool
	// kept says that usage follows from more than the object: what was booked for
	// it is remembered.
	kept bool
}

var (
	podResource     = schema.GroupResource{Resource: "pods"}
	serviceResource = schema.GroupResource{Resource: "services"}
	claimResource   = schema.GroupResource{Resource: "persistentvolumeclaims"}
)

// aliases are the names of counts from before every kind had one.
var aliases = map[schema.GroupResource]corev1.ResourceName{
	{Resource: "configmaps"}:             corev1.ResourceConfigMaps,
	{Resource: "resourcequotas"}:         corev1.ResourceQuotas,
	{Resource: "replicationcontrollers"}: corev1.ResourceReplicationControllers,
	{Resource: "secrets"}:                corev1.ResourceSecrets,
}

// ignored kinds are never counted, as upstream has it.
func ignored(d *object.Definition) bool {
	return d.Virtual || !d.Namespaced || d.Resource == "events" && (d.Group == "" || d.Group == "events.k8s.io")
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// countName is the name under which objects of a kind are counted.
func countName(gr schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName("count/" + gr.String())
}

// counted reads a name: which kind it counts.
func counted(name corev1.ResourceName) (schema.GroupResource, bool) {
	for gr, alias := range aliases {
		if alias == name {
			return gr, true
		}
	}
	rest, ok := strings.CutPrefix(string(name), "count/")
	if !ok || rest == "" {
		return schema.GroupResource{}, false
	}
	gr := schema.ParseGroupResource(rest)
	switch gr {
	case podResource, serviceResource, claimResource, deviceResource:
		return schema.GroupResource{}, false
	}
	return gr, true
}

// counting measures a kind of which only the number counts.
func counting(gr schema.GroupResource) measure {
	usage := corev1.ResourceList{countName(gr): one()}
	if alias, ok := aliases[gr]; ok {
		usage[alias] = one()
	}
	return measure{
		names: func(n corev1.ResourceName) bool { _, ok := usage[n]; return ok },
		usage: func(object.Object, time.Time) corev1.ResourceList { return clone(usage) },
	}
}

func oneOf(names ...corev1.ResourceName) func(corev1.ResourceName) bool {
	return func(n corev1.ResourceName) bool { return slices.Contains(names, n) }
}

var podNames = oneOf(
	"count/pods", corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsEphemeralStorage,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
)

var pods = measure{
	names: func(n corev1.ResourceName) bool {
		s := string(n)
		if podNames(n) || strings.HasPrefix(s, corev1.ResourceHugePagesPrefix) || strings.HasPrefix(s, corev1.ResourceRequestsHugePagesPrefix) {
			return true
		}
		return extendedName(n)
	},
	usage: func(o object.Object, now time.Time) corev1.ResourceList { return podUsage(o.(*corev1.Pod), now) },
	scope: podInScope,
}

// podUsage is what a pod is charged for. One that has ended, or that should be
// gone by now, counts as an object and no more.
func podUsage(p *corev1.Pod, now time.Time) corev1.ResourceList {
	l := corev1.ResourceList{"count/pods": one()}
	if !podCharged(p, now) {
		return l
	}
	o := helpers.PodResourcesOptions{UseStatusResources: true}
	addCompute(l, helpers.PodRequests(p, o), helpers.PodLimits(p, o))
	return l
}

func podCharged(p *corev1.Pod, now time.Time) bool {
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return false
	}
	at, ok := overdueAt(p)
	return !ok || !now.After(at)
}

// overdueAt is when a pod that is being deleted should be gone at the latest: a
// lost node must not hold its pods' quota for ever.
func overdueAt(p *corev1.Pod) (time.Time, bool) {
	if p.DeletionTimestamp == nil || p.DeletionGracePeriodSeconds == nil {
		return time.Time{}, false
	}
	return p.DeletionTimestamp.Add(time.Duration(*p.DeletionGracePeriodSeconds) * time.Second), true
}

// addCompute names requests and limits as quotas do.
func addCompute(l, requests, limits corev1.ResourceList) {
	l[corev1.ResourcePods] = one()
	for name, q := range requests {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			l[name] = q
			l["requests."+name] = q.DeepCopy()
		default:
			if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
				l[name] = q
				l["requests."+name] = q.DeepCopy()
			} else if podspec.ValidExtended(string(name)) || strings.HasPrefix(string(name), resourcev1.ResourceDeviceClassPrefix) {
				l["requests."+name] = q
			}
		}
	}
	for name, q := range limits {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			l["limits."+name] = q
		}
	}
}

// demanded are the resources that every container of a pod must state when a
// quota limits them: upstream's early choice, which stays.
var demanded = oneOf(
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
)

// unstated says which demanded resources of hard a pod's containers leave out,
// as "limits.cpu for: a,b; requests.cpu for: b"; empty when none.
func unstated(p *corev1.Pod, hard corev1.ResourceList) string {
	if helpers.IsPodLevelResourcesSet(p) {
		return ""
	}
	var all []string
	var asked []corev1.ResourceName
	for name := range hard {
		if demanded(name) {
			asked = append(asked, name)
		}
	}
	slices.Sort(asked)
	for _, name := range asked {
		var without []string
		for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
			for i := range list {
				from := list[i].Resources.Requests
				base, limit := strings.CutPrefix(string(name), "limits.")
				if limit {
					from = list[i].Resources.Limits
				}
				if _, ok := from[corev1.ResourceName(strings.TrimPrefix(base, "requests."))]; !ok {
					without = append(without, list[i].Name)
				}
			}
		}
		if len(without) > 0 {
			slices.Sort(without)
			all = append(all, string(name)+" for: "+strings.Join(slices.Compact(without), ","))
		}
	}
	return strings.Join(all, "; ")
}

var services = measure{
	names: oneOf("count/services", corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers),
	usage: func(o object.Object, _ time.Time) corev1.ResourceList { return serviceUsage(o.(*corev1.Service)) },
}

func serviceUsage(s *corev1.Service) corev1.ResourceList {
	ports, balancers := 0, 0
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		ports = len(s.Spec.Ports)
	case corev1.ServiceTypeLoadBalancer:
		ports, balancers = len(s.Spec.Ports), 1
		if a := s.Spec.AllocateLoadBalancerNodePorts; a != nil && !*a {
			ports = 0
			for i := range s.Spec.Ports {
				if s.Spec.Ports[i].NodePort != 0 {
					ports++
				}
			}
		}
	}
	return corev1.ResourceList{
		"count/services": one(), corev1.ResourceServices: one(),
		corev1.ResourceServicesNodePorts:     *resource.NewQuantity(int64(ports), resource.DecimalSI),
		corev1.ResourceServicesLoadBalancers: *resource.NewQuantity(int64(balancers), resource.DecimalSI),
	}
}

// byClass comes between the name of a storage class and what is limited of it.
const byClass = ".storageclass.storage.k8s.io/"

var claims = measure{
	names: func(n corev1.ResourceName) bool {
		s := string(n)
		if i := strings.Index(s, byClass); i >= 0 {
			s = s[i+len(byClass):]
		} else if n == "count/persistentvolumeclaims" {
			return true
		}
		return s == string(corev1.ResourcePersistentVolumeClaims) || s == string(corev1.ResourceRequestsStorage)
	},
	usage: func(o object.Object, _ time.Time) corev1.ResourceList {
		return claimUsage(o.(*corev1.PersistentVolumeClaim))
	},
	scope: claimInScope,
}

func claimUsage(c *corev1.PersistentVolumeClaim) corev1.ResourceList {
	l := corev1.ResourceList{"count/persistentvolumeclaims": one(), corev1.ResourcePersistentVolumeClaims: one()}
	class := volume.GetPersistentVolumeClaimClass(c)
	if class != "" {
		l[corev1.ResourceName(class+byClass+"persistentvolumeclaims")] = one()
	}
	size, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return l
	}
	if got, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && got.Cmp(size) > 0 {
		size = got
	}
	size = size.DeepCopy()
	size.RoundUp(0) // quotas count whole bytes
	l[corev1.ResourceRequestsStorage] = size
	if class != "" {
		l[corev1.ResourceName(class+byClass+"requests.storage")] = size.DeepCopy()
	}
	return l
}
