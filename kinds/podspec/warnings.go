package podspec

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

// deprecatedLabels are node labels with what to use instead.
var deprecatedLabels = map[string]string{
	"beta.kubernetes.io/arch":                  `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                    `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region": `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":   `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":         `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
}

// DeprecatedLabel returns what to say of a label of nodes that another has replaced.
func DeprecatedLabel(key string) (text string, ok bool) {
	text, ok = deprecatedLabels[key]
	return text, ok
}

var deadAnnotations = map[string]string{
	"scheduler.alpha.kubernetes.io/critical-pod":     `non-functional in v1.16+; use the "priorityClassName" field instead`,
	"security.alpha.kubernetes.io/sysctls":           `non-functional in v1.11+; use the "sysctls" field instead`,
	"security.alpha.kubernetes.io/unsafe-sysctls":    `non-functional in v1.11+; use the "sysctls" field instead`,
	"seccomp.security.alpha.kubernetes.io/pod":       `non-functional in v1.27+; use the "seccompProfile" field instead`,
	"container.seccomp.security.alpha.kubernetes.io": `non-functional in v1.27+; use the "seccompProfile" field instead`,
}

var deadAnnotationKeys = slices.Sorted(maps.Keys(deadAnnotations))

// TemplateWarnings returns what a client should know of a template it writes.
func TemplateWarnings(t *corev1.PodTemplateSpec, path *field.Path) []string {
	return Warnings(t.Annotations, &t.Spec, path.Child("metadata"), path.Child("spec"))
}

// NameWarnings warns of a workload's or pod's name that makes no good host
// name; use says what it is used in.
func NameWarnings(name, use string) []string {
	if name == "" {
		return nil
	}
	if msgs := check.IsDNS1123Label(name); len(msgs) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in %s, which can result in surprising behavior; a DNS label is recommended: %v", use, msgs)}
	}
	return nil
}

// Warnings returns what a client should know of a pod it writes: it works, but
// hardly the way it was meant.
func Warnings(annotations map[string]string, s *corev1.PodSpec, meta, path *field.Path) (out []string) {
	warn := func(p *field.Path, format string, args ...any) {
		out = append(out, p.String()+": "+fmt.Sprintf(format, args...))
	}
	label := func(key string, p *field.Path) {
		if msg, ok := deprecatedLabels[key]; ok {
			warn(p, "%s", msg)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.NodeSelector)) {
		label(k, path.Child("nodeSelector").Key(k))
	}
	affinityWarnings(s.Affinity, path.Child("affinity"), label, warn)
	for i, c := range s.TopologySpreadConstraints {
		p := path.Child("topologySpreadConstraints").Index(i)
		label(c.TopologyKey, p.Child("topologyKey"))
		if c.LabelSelector == nil {
			warn(p.Child("labelSelector"), "a null labelSelector results in matching no pod")
		}
	}
	for _, k := range deadAnnotationKeys {
		if _, ok := annotations[k]; ok {
			warn(meta.Child("annotations").Key(k), "%s", deadAnnotations[k])
		}
	}
	hosts := map[string]bool{}
	for i, a := range s.HostAliases {
		if hosts[a.IP] {
			warn(path.Child("hostAliases").Index(i).Child("ip"), "another entry with same ip")
		}
		hosts[a.IP] = true
	}
	for i := range s.Volumes {
		volumeWarnings(&s.Volumes[i], func() *field.Path { return path.Child("volumes").Index(i) }, warn)
	}
	for i, ref := range s.ImagePullSecrets {
		if ref.Name == "" {
			warn(path.Child("imagePullSecrets").Index(i), "invalid empty name %q", ref.Name)
		}
	}
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		warn(path.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	ports := map[portKey][]portAt{}
	eachContainer(s, path, func(c *corev1.Container, p *field.Path) {
		containerWarnings(c, p, warn)
		portWarnings(c, p, ports, warn)
	})
	if s.Overhead != nil {
		fractional(s.Overhead, path.Child("overhead"), warn)
	}
	return out
}

func affinityWarnings(a *corev1.Affinity, path *field.Path, label func(string, *field.Path), warn func(*field.Path, string, ...any)) {
	if a == nil {
		return
	}
	nodeTerm := func(t *corev1.NodeSelectorTerm, p *field.Path) {
		for i, r := range t.MatchExpressions {
			label(r.Key, p.Child("matchExpressions").Index(i).Child("key"))
		}
	}
	if n := a.NodeAffinity; n != nil {
		p := path.Child("nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			for i := range r.NodeSelectorTerms {
				nodeTerm(&r.NodeSelectorTerms[i], p.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i))
			}
		}
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			nodeTerm(&n.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference, p.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))
		}
	}
	podTerm := func(t *corev1.PodAffinityTerm, p *field.Path) {
		if t.LabelSelector == nil {
			warn(p.Child("labelSelector"), "a null labelSelector results in matching no pod")
		}
		label(t.TopologyKey, p.Child("topologyKey"))
	}
	podTerms := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, p *field.Path) {
		for i := range required {
			podTerm(&required[i], p.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i))
		}
		for i := range preferred {
			podTerm(&preferred[i].PodAffinityTerm, p.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm"))
		}
	}
	if n := a.PodAffinity; n != nil {
		podTerms(n.RequiredDuringSchedulingIgnoredDuringExecution, n.PreferredDuringSchedulingIgnoredDuringExecution, path.Child("podAffinity"))
	}
	if n := a.PodAntiAffinity; n != nil {
		podTerms(n.RequiredDuringSchedulingIgnoredDuringExecution, n.PreferredDuringSchedulingIgnoredDuringExecution, path.Child("podAntiAffinity"))
	}
}

func volumeWarnings(v *corev1.Volume, path func() *field.Path, warn func(*field.Path, string, ...any)) {
	for _, d := range []struct {
		set        bool
		name, what string
	}{
		{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
		{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
		{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
		{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
	} {
		if d.set {
			warn(path().Child(d.name), "%s", d.what)
		}
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		fractional(v.Ephemeral.VolumeClaimTemplate.Spec.Resources.Requests, path().Child("ephemeral", "volumeClaimTemplate", "spec", "resources", "requests"), warn)
	}
}

func containerWarnings(c *corev1.Container, path *field.Path, warn func(*field.Path, string, ...any)) {
	if len(c.Resources.Limits) > 0 {
		fractional(c.Resources.Limits, path.Child("resources", "limits"), warn)
	}
	if len(c.Resources.Requests) > 0 {
		fractional(c.Resources.Requests, path.Child("resources", "requests"), warn)
	}
	if len(c.Env) < 2 {
		return
	}
	seen := make(map[string]bool, len(c.Env))
	for i, e := range c.Env {
		if seen[e.Name] {
			warn(path.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", e.Name)
		}
		seen[e.Name] = true
	}
}

func fractional(l corev1.ResourceList, path *field.Path, warn func(*field.Path, string, ...any)) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage} {
		if q, ok := l[name]; ok && q.MilliValue()%1000 != 0 {
			warn(path.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}

type portKey struct {
	port     int32
	protocol corev1.Protocol
}

type portAt struct {
	path *field.Path
	port corev1.ContainerPort
}

// portWarnings reports the same port twice within a pod, unless the two differ
// in where they appear on the node.
func portWarnings(c *corev1.Container, path *field.Path, seen map[portKey][]portAt, warn func(*field.Path, string, ...any)) {
	for i, port := range c.Ports {
		p := path.Child("ports").Index(i)
		key := portKey{port.ContainerPort, port.Protocol}
		for _, other := range seen[key] {
			sameAddress := port.HostIP == other.port.HostIP
			switch {
			case port.HostPort == other.port.HostPort && (sameAddress || port.HostPort == 0):
				warn(p, "duplicate port definition with %s", other.path)
			case port.HostPort == 0 || other.port.HostPort == 0:
				warn(p, "overlapping port definition with %s", other.path)
			case port.HostPort == other.port.HostPort && (anyAddress(port.HostIP) || anyAddress(other.port.HostIP)):
				warn(p, "overlapping port definition with %s", other.path)
			}
		}
		seen[key] = append(seen[key], portAt{p, port})
	}
}

func anyAddress(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
