package quota

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sagong/object"
)

// Claims of devices are charged by class, by the most that they may come to, and
// under the names of the extended resources that the class stands for: what a pod
// gets as devices counts like what it gets of its node.

var deviceResource = schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}

const countDevices = corev1.ResourceName("count/resourceclaims.resource.k8s.io")

// devices measures claims of devices. What one uses depends on its pod and on
// the classes too, which come and go: it stays booked as it was found.
func (l *Ledger) devices() measure {
	return measure{
		names: deviceNames,
		usage: func(o object.Object, now time.Time) corev1.ResourceList {
			return l.deviceUsage(o.(*resourcev1.ResourceClaim), now)
		},
		kept: true,
	}
}

func deviceNames(n corev1.ResourceName) bool {
	return n == countDevices || strings.HasSuffix(string(n), corev1.ResourceClaimsPerClass) || extendedName(n)
}

// extendedName tells requests.example.com/gpu, and the names that device classes
// have of their own.
func extendedName(n corev1.ResourceName) bool {
	s := string(n)
	return strings.HasPrefix(s, corev1.ResourceImplicitExtendedClaimsPerClass) ||
		strings.HasPrefix(s, corev1.DefaultResourceRequestsPrefix) && strings.Contains(s, "/") && !strings.Contains(s, corev1.ResourceDefaultNamespacePrefix)
}

func (l *Ledger) deviceUsage(c *resourcev1.ResourceClaim, now time.Time) corev1.ResourceList {
	most := func(mode resourcev1.DeviceAllocationMode, count int64) int64 {
		switch mode {
		case resourcev1.DeviceAllocationModeExactCount:
			return count
		case resourcev1.DeviceAllocationModeAll:
			return resourcev1.AllocationResultsMaxSize
		}
		return 0
	}
	by := map[string]int64{}
	for i := range c.Spec.Devices.Requests {
		r := &c.Spec.Devices.Requests[i]
		one := map[string]int64{} // of alternatives the largest
		if r.Exactly != nil {
			one[r.Exactly.DeviceClassName] = most(r.Exactly.AllocationMode, r.Exactly.Count)
		}
		for j := range r.FirstAvailable {
			s := &r.FirstAvailable[j]
			one[s.DeviceClassName] = max(one[s.DeviceClassName], most(s.AllocationMode, s.Count))
		}
		for class, k := range one {
			by[class] += k
		}
	}
	paid := l.paidBy(c, now)
	list := corev1.ResourceList{countDevices: one()}
	for class, k := range by {
		q := *resource.NewQuantity(k, resource.DecimalSI)
		list[corev1.ResourceName(class+corev1.ResourceClaimsPerClass)] = q
		names := []corev1.ResourceName{corev1.ResourceName(corev1.ResourceImplicitExtendedClaimsPerClass + class)}
		if name, ok := l.standing.Load(class); ok {
			names = append(names, corev1.ResourceName(corev1.DefaultResourceRequestsPrefix+name.(string)))
		}
		for _, name := range names {
			q := q.DeepCopy()
			q.Sub(paid[name])
			if q.Sign() > 0 {
				list[name] = q
			}
		}
	}
	return list
}

// paidBy is what the pod is charged for that a claim was made for, of which the
// claim need not be charged again: nothing for claims that users make.
func (l *Ledger) paidBy(c *resourcev1.ResourceClaim, now time.Time) corev1.ResourceList {
	ref := metav1.GetControllerOfNoCopy(c)
	if c.Annotations[resourcev1.ExtendedResourceClaimAnnotation] != "true" || ref == nil || ref.Kind != "Pod" || ref.APIVersion != "v1" {
		return nil
	}
	p, ok := l.pods.Get(c.Namespace, ref.Name)
	if !ok || p.UID != ref.UID {
		return nil
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil {
		if s.ResourceClaimName != c.Name && c.Name != "" {
			return nil
		}
		return podUsage(p, now)
	}
	// A pod that does not say which is its claim pays for its first.
	for _, o := range l.claimsOf.By(byPod, c.Namespace+"/"+string(p.UID)) {
		if o.UID != c.UID && (c.CreationTimestamp.IsZero() || o.CreationTimestamp.Before(&c.CreationTimestamp) ||
			o.CreationTimestamp.Equal(&c.CreationTimestamp) && o.Name < c.Name) {
			return nil
		}
	}
	return podUsage(p, now)
}

const byPod = "quota/pod" // claims for extended resources by "namespace/UID" of their pod

func podOf(c *resourcev1.ResourceClaim) []string {
	if ref := metav1.GetControllerOfNoCopy(c); ref != nil && ref.Kind == "Pod" && c.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true" {
		return []string{c.Namespace + "/" + string(ref.UID)}
	}
	return nil
}

// classChanged notes a device class, and books the claims anew when what it
// stands for changed.
func (l *Ledger) classChanged(old, new *resourcev1.DeviceClass) {
	name := func(c *resourcev1.DeviceClass) string {
		if c == nil || c.Spec.ExtendedResourceName == nil {
			return ""
		}
		return *c.Spec.ExtendedResourceName
	}
	if name(old) == name(new) {
		return
	}
	if new != nil && name(new) != "" {
		l.standing.Store(new.Name, name(new))
	} else {
		l.standing.Delete(old.Name)
	}
	for ns := range l.opened() {
		if s := l.space(ns); s != nil {
			l.claimsOf.Still(func() {
				for _, c := range l.claimsOf.By("namespace", ns) {
					l.book(s, l.devices(), c, c)
				}
			})
		}
	}
}
