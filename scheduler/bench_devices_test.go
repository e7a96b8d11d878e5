package scheduler

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/scheduler/plugins"
)

// unwritten is the rule without what it writes to the API.
type unwritten struct{ plugins.DynamicResources }

func (unwritten) Binds(*corev1.Pod, string) bool { return false }

// Pods with a claim of their own, from one template, on 5,000 nodes of eight
// devices each.
func BenchmarkDevicesOfATemplate4000(b *testing.B) {
	const pods = 4000
	var d *plugins.Devices
	equip := func(l *lab) {
		d = plugins.NewDevices(plugins.Deps{Now: time.Now, Post: l.post, Changed: func(c plugins.Change) { l.changes |= c }})
		p := l.profiles[Name]
		p.rules = append(p.rules, unwritten{plugins.DynamicResources{Devices: d}})
		p.filters["DynamicResources"], p.weights["DynamicResources"] = true, 2
		l.queue.claims = d.ClassKey
		d.ClassChanged(nil, deviceClass("gpu", `device.driver == "gpu.example.com"`))
		for i := range benchNodes {
			d.SliceChanged(nil, deviceSlice(fmt.Sprint("n", i), 8))
		}
		for i := range pods {
			owner := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p-", i), UID: types.UID(fmt.Sprint("p-", i))}}
			c := deviceClaim(fmt.Sprintf("p-%d-gpu", i), gpus(1))
			c.UID = types.UID(c.Name)
			c.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("Pod"))}
			d.ClaimChanged(nil, c)
		}
	}
	bench(b, equip, pods, func(l *lab) {
		l.add(pods, "p", func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimTemplateName: new("gpu")}}
			p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu", ResourceClaimName: new(p.Name + "-gpu")}}
		})
	})
}
