package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Features are what --feature-gates and --runtime-config switch on.
type Features struct {
	// Workloads is the feature GenericWorkload with its API: Workload and
	// PodGroup, and the placement of pods by group.
	Workloads bool
}

const (
	genericWorkload = "GenericWorkload"
	workloadAPI     = "scheduling.k8s.io/v1beta1"
)

// locked are features that upstream has locked in this version and that hold
// here: naming them with their value does nothing.
var locked = map[string]bool{
	"DRAAdminAccess": true, "DRAExtendedResource": true, "DRAPrioritizedList": true, "DRAResourceClaimDeviceStatus": true, "DynamicResourceAllocation": true,
	"InPlacePodVerticalScaling": true, "InPlacePodVerticalScalingInitContainers": true, "NodeDeclaredFeatures": true,
	"NodeInclusionPolicyInPodTopologySpread": true, "VolumeAttributesClass": true,
}

// always are features of the scheduler that upstream has on by default and lets
// be switched off, which this version does not.
var always = map[string]bool{
	"DRAConsumableCapacity": true, "DRADeviceBindingConditions": true, "DRADeviceTaintRules": true, "DRADeviceTaints": true,
	"DRAPartitionableDevices": true, "DRASchedulerFilterTimeout": true, "InPlacePodLevelResourcesVerticalScaling": true,
	"MatchLabelKeysInPodTopologySpread": true, "PodLevelResources": true, "SchedulerAsyncPreemption": true, "SchedulerPopFromBackoffQ": true,
	"StorageCapacityScoring": true, "VolumeLimitScaling": true, "NominatedNodeNameForExpectation": true,
}

// Features reads the switches. Errors name the flag.
func (c *Config) Features() (Features, error) {
	gates, err := switches("feature-gates", c.FeatureGates)
	if err != nil {
		return Features{}, err
	}
	for name, on := range gates {
		value, fixed := locked[name]
		switch {
		case name == genericWorkload, always[name] && on:
		case always[name]:
			return Features{}, fmt.Errorf("--feature-gates: %s cannot be switched off in this version", name)
		case !fixed:
			return Features{}, fmt.Errorf("--feature-gates: unrecognized feature gate: %s", name)
		case on != value:
			return Features{}, fmt.Errorf("--feature-gates: cannot set feature gate %s to %t, feature is locked to %t", name, on, value)
		}
	}
	apis, err := switches("runtime-config", c.RuntimeConfig)
	if err != nil {
		return Features{}, err
	}
	for name := range apis {
		if name != workloadAPI {
			return Features{}, fmt.Errorf("--runtime-config: %s cannot be switched in this version; %s can", name, workloadAPI)
		}
	}
	if gates[genericWorkload] && !apis[workloadAPI] {
		return Features{}, fmt.Errorf("--feature-gates: %s needs --runtime-config=%s=true: pods could name groups that nobody can make", genericWorkload, workloadAPI)
	}
	return Features{Workloads: gates[genericWorkload]}, nil
}

// switches reads NAME=BOOL items, in upstream's words where they are wrong. An
// API alone is on.
func switches(flag string, items []string) (map[string]bool, error) {
	all := map[string]bool{}
	for _, item := range items {
		name, value, given := strings.Cut(strings.TrimSpace(item), "=")
		name = strings.TrimSpace(name)
		switch {
		case name == "":
		case !given && flag == "feature-gates":
			return nil, fmt.Errorf("--%s: missing bool value for %s", flag, name)
		case !given:
			all[name] = true
		default:
			on, err := strconv.ParseBool(strings.TrimSpace(value))
			if err != nil {
				return nil, fmt.Errorf("--%s: invalid value of %s=%s, err: %w", flag, name, value, err)
			}
			all[name] = on
		}
	}
	return all, nil
}

func (c *Config) validateFeatures(bad func(flag, format string, args ...any)) {
	if _, err := c.Features(); err != nil {
		flag, why, _ := strings.Cut(strings.TrimPrefix(err.Error(), "--"), ": ")
		bad(flag, "%s", why)
	}
}
