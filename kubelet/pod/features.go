package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"
	"k8s.io/component-helpers/nodedeclaredfeatures/types"

	"sagong/config"
)

// Features are what a node declares of the features that pods and clients may
// need of it.
type Features struct {
	Names []string // in order
	set   ndf.FeatureSet
}

var servedVersion = version.MustParseSemantic(config.KubernetesVersion)

// Declare makes the features of a node that has those named. Names that
// Kubernetes does not know are left out.
func Declare(has ...string) Features {
	gates := types.FeatureGateMap{}
	for _, name := range has {
		gates[name] = true
	}
	names := ndf.DefaultFramework.DiscoverNodeFeatures(&ndf.NodeConfiguration{Version: servedVersion, FeatureGates: gates})
	return Features{names, ndf.DefaultFramework.TryMap(names)}
}

// Lacks are the features that a pod cannot do without and the node has not.
func (f Features) Lacks(p *corev1.Pod) []string {
	all := ndf.DefaultFramework
	needs, err := all.InferForPodScheduling(&ndf.PodInfo{Spec: &p.Spec, Status: &p.Status}, servedVersion)
	if err != nil {
		return nil // there is a version
	}
	found, err := all.MatchNodeFeatureSet(needs, f.set)
	if err != nil {
		return nil // both sets are of one registry
	}
	return found.UnsatisfiedRequirements
}
