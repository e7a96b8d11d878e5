// Package configuration reads KubeSchedulerConfiguration: which profiles there
// are and by which rules, weights and arguments each of them places pods.
package configuration

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/scheduler/plugins"
)

// Configuration is a KubeSchedulerConfiguration, complete and valid.
type Configuration struct {
	Profiles                   []Profile // at least one
	InitialBackoff, MaxBackoff time.Duration
	// Warnings tell of what was given and has no meaning here.
	Warnings []string
}

// Profile is a set of rules that pods choose by spec.schedulerName.
type Profile struct {
	Name string
	// Filters are the rules, by name, that rule nodes out, Weights those that
	// score them.
	Filters map[string]bool
	Weights map[string]int64
	// Preempts tells whether pods that fit nowhere may ask others to go.
	Preempts bool
	Args     plugins.Args
}

// Default is what holds without a file.
func Default() *Configuration {
	c, err := Read(nil)
	if err != nil {
		panic(err) // the defaults are valid: a test sees to it
	}
	return c
}

// point is an extension point of upstream's framework.
type point string

const (
	preEnqueue point = "PreEnqueue"
	queueSort  point = "QueueSort"
	preFilter  point = "PreFilter"
	filter     point = "Filter"
	postFilter point = "PostFilter"
	preScore   point = "PreScore"
	score      point = "Score"
	reserve    point = "Reserve"
	preBind    point = "PreBind"
	permit     point = "Permit"
	bind       point = "Bind"
	postBind   point = "PostBind"
)

// known is a plugin of upstream's that this scheduler has: the points it extends
// and its weight.
type known struct {
	name   string
	weight int32
	points []point
}

// gangScheduling is in no profile or in all: meaningless tells.
const gangScheduling = "GangScheduling"

// inOrder is upstream's default set, in its order.
var inOrder = []known{
	{"SchedulingGates", 0, []point{preEnqueue}},
	{"PrioritySort", 0, []point{queueSort}},
	{"NodeUnschedulable", 0, []point{filter}},
	{"NodeName", 0, []point{filter}},
	{"TaintToleration", 3, []point{filter, preScore, score}},
	{"NodeAffinity", 2, []point{preFilter, filter, preScore, score}},
	{"NodePorts", 0, []point{preFilter, filter}},
	{"NodeResourcesFit", 1, []point{preFilter, filter, preScore, score}},
	{"VolumeRestrictions", 0, []point{preFilter, filter}},
	{"NodeVolumeLimits", 0, []point{preFilter, filter}},
	{"VolumeBinding", 0, []point{preFilter, filter, reserve, preBind, preScore, score}},
	{"VolumeZone", 0, []point{preFilter, filter}},
	{"PodTopologySpread", 2, []point{preFilter, filter, preScore, score}},
	{"InterPodAffinity", 2, []point{preFilter, filter, preScore, score}},
	{"DynamicResources", 2, []point{preEnqueue, preFilter, filter, postFilter, score, reserve, preBind}},
	{"DefaultPreemption", 0, []point{preEnqueue, postFilter}},
	{"NodeResourcesBalancedAllocation", 1, []point{preScore, score}},
	{"ImageLocality", 1, []point{score}},
	{"DefaultBinder", 0, []point{bind}},
	{"NodeDeclaredFeatures", 0, []point{preFilter, filter}},
	{gangScheduling, 0, []point{preEnqueue, permit}},
}

// elsewhere are upstream's plugins that this scheduler has not.
var elsewhere = map[string]bool{
	"DeferredPodScheduling":      true,
	"TopologyPlacementGenerator": true, "PodGroupPodsCount": true,
}

// removed are plugins of earlier versions, which upstream names as such.
var removed = map[string]bool{"AzureDiskLimits": true, "CinderLimits": true, "EBSLimits": true, "GCEPDLimits": true}

func wasRemoved(path *field.Path, name string) error {
	return field.Invalid(path, name, fmt.Sprintf("was invalid in version %q (KubeSchedulerConfiguration is version %q)", "v1", groupVersion))
}

func lookup(name string) *known {
	for i := range inOrder {
		if inOrder[i].name == name {
			return &inOrder[i]
		}
	}
	return nil
}

// needed must stay enabled: the API and the queue rely on them.
var needed = []struct {
	name string
	at   point
	why  string
}{
	{"PrioritySort", queueSort, "only one queue sort plugin required for profile with scheduler name %q, but got 0"},
	{"DefaultBinder", bind, "at least one bind plugin is needed for profile with scheduler name %q"},
	{"SchedulingGates", preEnqueue, "profile with scheduler name %q: SchedulingGates cannot be disabled, as the API refuses to bind a pod with gates"},
}

const defaultName = corev1.DefaultSchedulerName
