package core

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/kinds/podspec"
	"sagong/object"
)

// Node defines core/v1 Node.
func Node() *object.Definition {
	status, info := corev1.NodeStatus{}.SwaggerDoc(), corev1.NodeSystemInfo{}.SwaggerDoc()
	address := func(t corev1.NodeAddressType) func(*corev1.Node) string {
		return func(n *corev1.Node) string {
			for _, a := range n.Status.Addresses {
				if a.Type == t {
					return a.Address
				}
			}
			return "<none>"
		}
	}
	return object.Kind[*corev1.Node]{
		Version: "v1", Kind: "Node", Resource: "nodes", ShortNames: []string{"no"}, Status: true,
		New:     func() *corev1.Node { return &corev1.Node{} },
		NewList: func() runtime.Object { return &corev1.NodeList{} },
		Subresources: []object.Subresource{
			{Name: "proxy", Version: "v1", Kind: "NodeProxyOptions", Verbs: []string{"create", "delete", "get", "patch", "update"}},
		},
		Fields: func(n *corev1.Node) fields.Set {
			return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
		},
		FieldNames: []string{"spec.unschedulable"},
		Columns: []object.TypedColumn[*corev1.Node]{
			object.NameColumn[*corev1.Node](),
			object.StringColumn("Status", "The status of the node", nodeStatus),
			object.StringColumn("Roles", "The roles of the node", nodeRoles),
			object.AgeColumn[*corev1.Node](),
			object.StringColumn("Version", info["kubeletVersion"], func(n *corev1.Node) string { return n.Status.NodeInfo.KubeletVersion }),
			object.StringColumn("Internal-IP", status["addresses"], address(corev1.NodeInternalIP)).Wide(),
			object.StringColumn("External-IP", status["addresses"], address(corev1.NodeExternalIP)).Wide(),
			object.StringColumn("OS-Image", info["osImage"], func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.OSImage) }).Wide(),
			object.StringColumn("Kernel-Version", info["kernelVersion"], kernel).Wide(),
			object.StringColumn("Container-Runtime", info["containerRuntimeVersion"], func(n *corev1.Node) string { return orUnknown(n.Status.NodeInfo.ContainerRuntimeVersion) }).Wide(),
		},
		// A node registers with its status, so create keeps it.
		Default:              defaultNode,
		Validate:             validateNode,
		ValidateUpdate:       validateNodeUpdate,
		ValidateStatusUpdate: validateNodeStatus,
	}.Definition()
}

func nodeStatus(n *corev1.Node) string {
	s := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			s = "NotReady"
			if c.Status == corev1.ConditionTrue {
				s = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		s += ",SchedulingDisabled"
	}
	return s
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if k == "kubernetes.io/role" && v != "" {
			roles = append(roles, v)
		}
	}
	slices.Sort(roles)
	return orNone(strings.Join(slices.Compact(roles), ","))
}

func kernel(n *corev1.Node) string {
	s := orUnknown(n.Status.NodeInfo.KernelVersion)
	if arch := n.Status.NodeInfo.Architecture; arch != "" {
		s += " (" + arch + ")"
	}
	return s
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}

func defaultNode(n *corev1.Node) {
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	podspec.RoundUp(n.Status.Capacity)
	podspec.RoundUp(n.Status.Allocatable)
	// The single range is the first of the list.
	if n.Spec.PodCIDR != "" && len(n.Spec.PodCIDRs) == 0 {
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	}
	if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
}
