package admission_test

import (
	"slices"
	"strings"
	"testing"

	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/apiserver/admission"
)

func TestGroupsGetAPriorityAndProtection(t *testing.T) {
	c := newCluster(t)
	group := func(name, class string, priority *int32) *schedulingv1beta1.PodGroup {
		g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		g.Spec.SchedulingPolicy.Basic = &schedulingv1beta1.BasicSchedulingPolicy{}
		g.Spec.PriorityClassName, g.Spec.Priority = class, priority
		return g
	}
	c.must(&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 7})
	for name, x := range map[string]struct {
		in    *schedulingv1beta1.PodGroup
		class string
		value int32
	}{
		"none":  {group("none", "", nil), "", 0},
		"named": {group("named", "high", nil), "high", 7},
		"same":  {group("same", "high", new(int32(7))), "high", 7},
	} {
		g := c.must(x.in).(*schedulingv1beta1.PodGroup)
		if g.Spec.PriorityClassName != x.class || g.Spec.Priority == nil || *g.Spec.Priority != x.value {
			t.Errorf("%s: %+v", name, g.Spec)
		}
		if !slices.Equal(g.Finalizers, []string{admission.PodGroupFinalizer}) {
			t.Errorf("%s: finalizers %q", name, g.Finalizers)
		}
	}
	for want, g := range map[string]*schedulingv1beta1.PodGroup{
		"no PriorityClass with name low was found":                                 group("unknown", "low", nil),
		"the integer value of priority (9) must not be provided in pod group spec": group("other", "high", new(int32(9))),
	} {
		if _, err := c.Create(t.Context(), c.Scheme().ByObject(g), g); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", g.Name, err)
		}
	}
	c.must(&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "usual"}, Value: 3, GlobalDefault: true})
	if g := c.must(group("default", "", nil)).(*schedulingv1beta1.PodGroup); g.Spec.PriorityClassName != "usual" || *g.Spec.Priority != 3 {
		t.Errorf("with a default class: %+v", g.Spec)
	}
}
