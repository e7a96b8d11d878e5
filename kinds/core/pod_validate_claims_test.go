package core

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestStatusOfClaimsAndDevices(t *testing.T) {
	mapping := corev1.ContainerExtendedResourceRequest{ContainerName: "c", ResourceName: "example.com/gpu", RequestName: "r"}
	old := &corev1.Pod{Spec: corev1.PodSpec{
		ResourceClaims: []corev1.PodResourceClaim{{Name: "mine", ResourceClaimTemplateName: new("t")}},
		Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"example.com/gpu": resource.MustParse("1")}, Claims: []corev1.ResourceClaim{{Name: "mine", Request: "nic"}},
		}}},
	}}
	health := func(name corev1.ResourceName, h ...corev1.ResourceHealth) func(*corev1.PodStatus) {
		return func(s *corev1.PodStatus) {
			s.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResourcesStatus: []corev1.ResourceStatus{{Name: name, Resources: h}}}}
		}
	}
	made := func(claim string, m ...corev1.ContainerExtendedResourceRequest) func(*corev1.PodStatus) {
		return func(s *corev1.PodStatus) {
			s.ExtendedResourceClaimStatus = &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: claim, RequestMappings: m}
		}
	}
	both := func(f ...func(*corev1.PodStatus)) func(*corev1.PodStatus) {
		return func(s *corev1.PodStatus) {
			for _, f := range f {
				f(s)
			}
		}
	}
	other, foreign, odd := mapping, mapping, mapping
	other.ContainerName, foreign.ResourceName, odd.RequestName = "d", "example.com/nic", "R"
	const notClaim = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
	ok := corev1.ResourceHealth{ResourceID: "a", Health: corev1.ResourceHealthStatusHealthy}
	for name, x := range map[string]struct {
		status func(*corev1.PodStatus)
		want   string
	}{
		"made":        {made("made", mapping), ""},
		"no mappings": {made("made"), `status.extendedResourceClaimStatus.requestMappings: Required value: at least one request mapping is required`},
		"no name":     {made("", mapping), `status.extendedResourceClaimStatus.resourceClaimName: Required value`},
		"container":   {made("made", other), `status.extendedResourceClaimStatus.requestMappings[0].containerName: Invalid value: "d": must match the name of an entry in spec.initContainers.name or spec.containers.name`},
		"resource":    {made("made", foreign), `status.extendedResourceClaimStatus.requestMappings[0].resourceName: Invalid value: "example.com/nic": must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests`},
		"request":     {made("made", odd), `status.extendedResourceClaimStatus.requestName: Invalid value: "R"`},
		"twice":       {made("made", mapping, mapping), `status.extendedResourceClaimStatus.requestMappings[1].containerName: Duplicate value: "c"`},
		"of a claim":  {health("claim:mine/nic", ok), ""},
		"all of it":   {health("claim:mine", ok), `status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: "claim:mine": ` + notClaim},
		"of plugin":   {health("example.com/gpu", ok), ""},
		"not asked":   {health("example.com/nic", ok), `status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: "example.com/nic": must match one of the container's resource requests`},
		"of made":     {both(made("made", mapping), health("claim:made/r", ok)), ""},
		"not of made": {both(made("made", mapping), health("claim:made/x", ok)), `status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: "claim:made/x": ` + notClaim},
		"same device": {health("claim:mine/nic", ok, ok), `status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].resourceID: Duplicate value: "a"`},
		"feels odd": {health("claim:mine/nic", corev1.ResourceHealth{ResourceID: "a", Health: "Odd"}),
			`status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: Unsupported value: "Odd": supported values: "Healthy", "Unhealthy", "Unknown"`},
		"claim of nobody": {func(s *corev1.PodStatus) { s.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "x"}} },
			"status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in `spec.resourceClaims`"},
	} {
		p := old.DeepCopy()
		x.status(&p.Status)
		got := validatePodStatus(p, old).ToAggregate()
		if x.want == "" && got != nil || x.want != "" && (got == nil || !strings.HasPrefix(strings.TrimPrefix(got.Error(), "["), x.want)) {
			t.Errorf("%s: %v, want %q", name, got, x.want)
		}
	}
}
