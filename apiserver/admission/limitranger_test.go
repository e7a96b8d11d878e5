package admission_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/admission"
	"sagong/apiserver/resource"
	"sagong/client"
	"sagong/object"
)

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = kresource.MustParse(pairs[i+1])
	}
	return l
}

func limits(name string, items ...corev1.LimitRangeItem) *corev1.LimitRange {
	return &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.LimitRangeSpec{Limits: items}}
}

func asks(requests, limits corev1.ResourceList) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
	}
}

// conformance: [sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]
func TestLimitRangeDefaults(t *testing.T) {
	c := newCluster(t)
	l := c.must(limits("l", corev1.LimitRangeItem{
		Type: corev1.LimitTypeContainer, Min: list("cpu", "50m", "memory", "100Mi", "ephemeral-storage", "100Gi"),
		Max:     list("cpu", "500m", "memory", "500Mi", "ephemeral-storage", "500Gi"),
		Default: list("cpu", "500m", "memory", "500Mi", "ephemeral-storage", "500Gi"), DefaultRequest: list("cpu", "100m", "memory", "200Mi", "ephemeral-storage", "200Gi"),
	})).(*corev1.LimitRange)
	for i, tc := range []struct{ requests, limits, wantRequests, wantLimits corev1.ResourceList }{
		{nil, nil, list("cpu", "100m", "memory", "200Mi", "ephemeral-storage", "200Gi"), list("cpu", "500m", "memory", "500Mi", "ephemeral-storage", "500Gi")},
		{list("cpu", "80m", "memory", "150Mi"), list("cpu", "300m"), list("cpu", "80m", "memory", "150Mi", "ephemeral-storage", "200Gi"), list("cpu", "300m", "memory", "500Mi", "ephemeral-storage", "500Gi")},
	} {
		p := c.must(pod(fmt.Sprintf("p%d", i), asks(tc.requests, tc.limits))).(*corev1.Pod)
		r := p.Spec.Containers[0].Resources
		if !equality.Semantic.DeepEqual(r.Requests, tc.wantRequests) || !equality.Semantic.DeepEqual(r.Limits, tc.wantLimits) {
			t.Errorf("requests %v, limits %v", r.Requests, r.Limits)
		}
	}
	p, _ := client.Get[*corev1.Pod](t.Context(), c, "default", "p0")
	if want := "LimitRanger plugin set: cpu, ephemeral-storage, memory request for container c; cpu, ephemeral-storage, memory limit for container c"; p.Annotations["kubernetes.io/limit-ranger"] != want {
		t.Errorf("annotation %q", p.Annotations["kubernetes.io/limit-ranger"])
	}
	c.refused(c, pod("small", asks(list("cpu", "10m", "memory", "50Mi"), nil)),
		`pods "small" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, minimum memory usage per Container is 100Mi, but request is 50Mi]`)
	c.refused(c, pod("large", asks(list("cpu", "600m"), list("cpu", "600m"))), `pods "large" is forbidden: maximum cpu usage per Container is 500m, but limit is 600m`)
	changed := l.DeepCopy()
	changed.Spec.Limits[0].Min = list("cpu", "9m", "memory", "49Mi")
	if _, err := client.Update(t.Context(), c, changed); err != nil {
		t.Fatal(err)
	}
	c.must(pod("small", asks(list("cpu", "10m", "memory", "50Mi"), nil)))
}

// conformance: [sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection [Conformance]
func TestLimitRangesArePatched(t *testing.T) {
	c := newCluster(t)
	item := corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Max: list("cpu", "1")}
	c.must(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	for _, ns := range []string{"default", "other"} {
		l := limits("l", item)
		l.Namespace, l.Labels = ns, map[string]string{"e2e": "x"}
		c.must(l)
	}
	all, _, err := client.ListOf[*corev1.LimitRange](t.Context(), c, "", client.ListOptions{LabelSelector: "e2e=x"})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d of them, %v", len(all), err)
	}
	l, err := client.PatchOf[*corev1.LimitRange](t.Context(), c, "default", "l", client.Patch{
		Type: "application/strategic-merge-patch+json", Data: []byte(`{"metadata":{"labels":{"e2e":"y"}},"spec":{"limits":[{"type":"Container","max":{"cpu":"2"}}]}}`),
	})
	if err != nil || l.Labels["e2e"] != "y" || l.Spec.Limits[0].Max.Cpu().String() != "2" {
		t.Errorf("%v, %v", l, err)
	}
	def := object.Of[*corev1.LimitRange](c.Scheme())
	selector, err := object.ParseSelector(def, "e2e=y", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.engine.DeleteCollection(t.Context(), resource.Caller{}, resource.Target{Kind: c.engine.Kind(def), Namespace: "default"}, &metav1.DeleteOptions{}, resource.ListOptions{Selector: selector}); err != nil {
		t.Fatal(err)
	}
	all, _, err = client.ListOf[*corev1.LimitRange](t.Context(), c, "", client.ListOptions{})
	if err != nil || len(all) != 1 || all[0].Namespace != "other" {
		t.Errorf("%d are left, %v", len(all), err)
	}
}

func TestLimitRangeBounds(t *testing.T) {
	for _, tc := range []struct {
		name string
		item corev1.LimitRangeItem
		pod  func(*corev1.Pod)
		want string
	}{
		{"no limit", corev1.LimitRangeItem{Type: corev1.LimitTypePod, Max: list("cpu", "1")}, asks(list("cpu", "1"), nil), "maximum cpu usage per Pod is 1.  No limit is specified"},
		{"no request", corev1.LimitRangeItem{Type: corev1.LimitTypePod, Min: list("cpu", "1")}, asks(nil, nil), "minimum cpu usage per Pod is 1.  No request is specified"},
		{"sum", corev1.LimitRangeItem{Type: corev1.LimitTypePod, Max: list("cpu", "1")}, func(p *corev1.Pod) {
			asks(list("cpu", "600m"), list("cpu", "600m"))(p)
			second := p.Spec.Containers[0]
			second.Name = "d"
			p.Spec.Containers = append(p.Spec.Containers, second)
		}, "maximum cpu usage per Pod is 1, but limit is 1200m"},
		{"ratio", corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, MaxLimitRequestRatio: list("cpu", "2")}, asks(list("cpu", "300m"), list("cpu", "1")), "cpu max limit to request ratio per Container is 2, but provided ratio is 3.333333"},
		{"ratio of nothing", corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, MaxLimitRequestRatio: list("cpu", "2")}, asks(list("cpu", "0"), list("cpu", "1")), "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"},
		{"ratio held", corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, MaxLimitRequestRatio: list("cpu", "2")}, asks(list("cpu", "500m"), list("cpu", "1")), ""},
		{"limit below", corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Min: list("memory", "10Mi")}, asks(list("memory", "10Mi"), list("memory", "10Mi")), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t)
			c.must(limits("l", tc.item))
			if tc.want == "" {
				c.must(pod("p", tc.pod))
				return
			}
			c.refused(c, pod("p", tc.pod), `pods "p" is forbidden: `+tc.want)
		})
	}
}

func TestLimitRangeOfClaimsAndResizes(t *testing.T) {
	c := newCluster(t)
	p := c.must(pod("p", asks(list("cpu", "2"), list("cpu", "3")))).(*corev1.Pod)
	c.must(limits("l",
		corev1.LimitRangeItem{Type: corev1.LimitTypePersistentVolumeClaim, Min: list("storage", "1Gi"), Max: list("storage", "5Gi")},
		corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Max: list("cpu", "1", "memory", "1Gi")},
	))
	claim := func(size string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: list("storage", size)},
		}}
	}
	c.refused(c, claim("10Gi"), `persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi`)
	c.refused(c, claim("1Mi"), `persistentvolumeclaims "c" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi`)
	c.must(claim("2Gi"))
	// What a resize leaves alone is not judged again; what it changes is.
	resize := func(cpu string) error {
		next := p.DeepCopy()
		next.ResourceVersion = ""
		next.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list("cpu", "2", "memory", "1Mi"), Limits: list("cpu", cpu, "memory", "1Gi")}
		_, err := c.Update(t.Context(), object.Of[*corev1.Pod](c.Scheme()), next, "resize")
		return err
	}
	if err := resize("4"); err == nil || !strings.Contains(err.Error(), "maximum cpu usage per Container is 1, but limit is 4") {
		t.Errorf("a resize beyond the bound: %v", err)
	}
	if err := resize("3"); err != nil {
		t.Errorf("a resize within the bounds: %v", err)
	}
}

func FuzzRatio(f *testing.F) {
	f.Add("1", "300m", "2")
	f.Add("1e1000000000", "1n", "1e-5")
	f.Fuzz(func(t *testing.T, limit, request, bound string) {
		a, err1 := kresource.ParseQuantity(limit)
		b, err2 := kresource.ParseQuantity(request)
		r, err3 := kresource.ParseQuantity(bound)
		if err1 != nil || err2 != nil || err3 != nil || a.Sign() <= 0 || b.Sign() <= 0 || r.Sign() <= 0 {
			return
		}
		admission.Ratio(a, b, r)
	})
}
