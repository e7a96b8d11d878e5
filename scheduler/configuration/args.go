package configuration

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"sagong/scheduler/plugins"
)

// readArgs reads pluginConfig into complete arguments.
func readArgs(path *field.Path, in []configv1.PluginConfig, out *plugins.Args) (errs []error) {
	into := map[string]any{
		"NodeResourcesFit": &out.Fit, "NodeResourcesBalancedAllocation": &out.Balanced, "InterPodAffinity": &out.Affinity,
		"PodTopologySpread": &out.Spread, "NodeAffinity": &out.NodeAffinity, "VolumeBinding": &out.VolumeBinding,
		"DefaultPreemption": &out.Preemption, "DynamicResources": &out.Devices,
	}
	at := map[string]*field.Path{}
	for i := range in {
		name, p := in[i].Name, path.Index(i)
		if at[name] != nil {
			errs = append(errs, field.Duplicate(p, name))
			continue
		}
		at[name] = p.Child("args")
		args := into[name]
		switch {
		case removed[name]:
			errs = append(errs, wasRemoved(p, name))
		case elsewhere[name]:
			errs = append(errs, field.Forbidden(p, fmt.Sprintf("plugin %q is not served by this version", name)))
		case lookup(name) == nil:
			errs = append(errs, field.Invalid(p, name, "is no plugin of this scheduler"))
		case len(in[i].Args.Raw) == 0 || string(in[i].Args.Raw) == "null":
		case args == nil:
			errs = append(errs, field.Forbidden(p.Child("args"), fmt.Sprintf("plugin %q takes no arguments", name)))
		default:
			if err := strictly(in[i].Args.Raw, args); err != nil {
				errs = append(errs, fmt.Errorf("decoding .%s: decoding args for plugin %s: %w", p, name, err))
			} else if err := rightKind(in[i].Args.Raw, name); err != nil {
				errs = append(errs, fmt.Errorf("decoding .%s: %w", p, err))
			}
		}
	}
	complete(out)
	of := func(name string) *field.Path {
		if p := at[name]; p != nil {
			return p
		}
		return path
	}
	for _, list := range []field.ErrorList{
		checkPreemption(of("DefaultPreemption"), &out.Preemption), checkAffinity(of("InterPodAffinity"), &out.Affinity),
		checkSpread(of("PodTopologySpread"), &out.Spread), checkBalanced(of("NodeResourcesBalancedAllocation"), &out.Balanced),
		checkNodeAffinity(of("NodeAffinity"), &out.NodeAffinity), checkVolumeBinding(of("VolumeBinding"), &out.VolumeBinding),
		checkFit(of("NodeResourcesFit"), &out.Fit), checkDevices(of("DynamicResources"), &out.Devices),
	} {
		for _, err := range list {
			errs = append(errs, err)
		}
	}
	return errs
}

// rightKind checks the kind that arguments may name.
func rightKind(raw []byte, plugin string) error {
	var t struct{ APIVersion, Kind string }
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	if t.Kind != "" && t.Kind != plugin+"Args" || t.APIVersion != "" && t.APIVersion != groupVersion {
		return fmt.Errorf("args for plugin %s were not of type %sArgs.kubescheduler.config.k8s.io, got %s", plugin, plugin, t.Kind)
	}
	return nil
}

func defaultResources() []configv1.ResourceSpec {
	return []configv1.ResourceSpec{{Name: string(corev1.ResourceCPU), Weight: 1}, {Name: string(corev1.ResourceMemory), Weight: 1}}
}

func weigh(list []configv1.ResourceSpec) {
	for i := range list {
		if list[i].Weight == 0 {
			list[i].Weight = 1
		}
	}
}

// complete fills in upstream's defaults.
func complete(a *plugins.Args) {
	if a.Preemption.MinCandidateNodesPercentage == nil {
		a.Preemption.MinCandidateNodesPercentage = new(int32(10))
	}
	if a.Preemption.MinCandidateNodesAbsolute == nil {
		a.Preemption.MinCandidateNodesAbsolute = new(int32(100))
	}
	if a.Affinity.HardPodAffinityWeight == nil {
		a.Affinity.HardPodAffinityWeight = new(int32(1))
	}
	if a.VolumeBinding.BindTimeoutSeconds == nil {
		a.VolumeBinding.BindTimeoutSeconds = new(int64(600))
	}
	if len(a.VolumeBinding.Shape) == 0 {
		a.VolumeBinding.Shape = []configv1.UtilizationShapePoint{{Utilization: 0, Score: 10}, {Utilization: 100, Score: 0}}
	}
	if a.Devices.FilterTimeout == nil {
		a.Devices.FilterTimeout = &metav1.Duration{Duration: 10 * time.Second}
	}
	if a.Devices.BindingTimeout == nil {
		a.Devices.BindingTimeout = &metav1.Duration{Duration: 10 * time.Minute}
	}
	if len(a.Balanced.Resources) == 0 {
		a.Balanced.Resources = defaultResources()
	}
	weigh(a.Balanced.Resources)
	if a.Spread.DefaultingType == "" {
		a.Spread.DefaultingType = configv1.SystemDefaulting
	}
	if a.Fit.ScoringStrategy == nil {
		a.Fit.ScoringStrategy = &configv1.ScoringStrategy{Type: configv1.LeastAllocated}
	}
	if len(a.Fit.ScoringStrategy.Resources) == 0 {
		a.Fit.ScoringStrategy.Resources = defaultResources()
	}
	weigh(a.Fit.ScoringStrategy.Resources)
}
