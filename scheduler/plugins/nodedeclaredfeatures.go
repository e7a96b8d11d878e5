package plugins

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
	ndf "k8s.io/component-helpers/nodedeclaredfeatures"

	"sagong/config"
	"sagong/scheduler/state"
)

// NodeDeclaredFeatures keeps pods off nodes that do not declare a feature which
// the pods need.
type NodeDeclaredFeatures struct{}

// Name implements Plugin.
func (NodeDeclaredFeatures) Name() string { return "NodeDeclaredFeatures" }

// Helps implements Plugin.
func (NodeDeclaredFeatures) Helps() Change { return FeaturesDeclared | PodChanged }

// Concerns implements Selective.
func (NodeDeclaredFeatures) Concerns(c *Class) bool { return !c.features.IsEmpty() }

// Filter implements Filter.
func (NodeDeclaredFeatures) Filter(c *Class, n *state.Node) *No {
	if ok, err := c.features.IsSubset(n.Features); ok && err == nil {
		return nil
	}
	return undeclared
}

var undeclared = RefuseFinally("node(s) didn't match Pod's required features")

var servedVersion = version.MustParseSemantic(config.KubernetesVersion)

// FeaturesOf are the features that a node must declare for a pod to go there.
func FeaturesOf(p *corev1.Pod) ndf.FeatureSet {
	needs, _ := ndf.DefaultFramework.InferForPodScheduling(&ndf.PodInfo{Spec: &p.Spec}, servedVersion) // fails without a version only
	return needs
}
