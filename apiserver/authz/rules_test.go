package authz

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

func resourceRule(verb, group, res string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{res}, ResourceNames: names}
}

// What a rule allows, as https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources says.
func TestRuleAllows(t *testing.T) {
	ask := func(verb, group, res, sub, name string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: verb, APIGroup: group, Resource: res, Subresource: sub, Name: name, ResourceRequest: true}
	}
	path := func(verb, path string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{Verb: verb, Path: path}
	}
	urls := func(verb, url string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: []string{url}}
	}
	for name, x := range map[string]struct {
		rule rbacv1.PolicyRule
		ask  authorizer.AttributesRecord
		want bool
	}{
		"exact":                              {resourceRule("get", "", "pods"), ask("get", "", "pods", "", "a"), true},
		"another verb":                       {resourceRule("get", "", "pods"), ask("list", "", "pods", "", ""), false},
		"another group":                      {resourceRule("get", "", "deployments"), ask("get", "apps", "deployments", "", "a"), false},
		"all verbs":                          {resourceRule("*", "", "pods"), ask("anything", "", "pods", "", "a"), true},
		"all groups":                         {resourceRule("get", "*", "deployments"), ask("get", "apps", "deployments", "", "a"), true},
		"all resources":                      {resourceRule("get", "", "*"), ask("get", "", "pods", "log", "a"), true},
		"a resource is not its subresource":  {resourceRule("get", "", "pods"), ask("get", "", "pods", "log", "a"), false},
		"a subresource is not its resource":  {resourceRule("get", "", "pods/log"), ask("get", "", "pods", "", "a"), false},
		"subresource":                        {resourceRule("get", "", "pods/log"), ask("get", "", "pods", "log", "a"), true},
		"one subresource of all":             {resourceRule("get", "apps", "*/scale"), ask("get", "apps", "deployments", "scale", "a"), true},
		"another subresource of all":         {resourceRule("get", "apps", "*/scale"), ask("get", "apps", "deployments", "status", "a"), false},
		"all subresources is not a wildcard": {resourceRule("get", "", "pods/*"), ask("get", "", "pods", "log", "a"), false},
		"by name":                            {resourceRule("get", "", "pods", "a"), ask("get", "", "pods", "", "a"), true},
		"another name":                       {resourceRule("get", "", "pods", "a"), ask("get", "", "pods", "", "b"), false},
		"a list has no name":                 {resourceRule("list", "", "pods", "a"), ask("list", "", "pods", "", ""), false},
		"names are no wildcards":             {resourceRule("get", "", "pods", "*"), ask("get", "", "pods", "", "a"), false},
		"path":                               {urls("get", "/healthz"), path("get", "/healthz"), true},
		"longer path":                        {urls("get", "/healthz"), path("get", "/healthz/x"), false},
		"path with wildcard":                 {urls("get", "/healthz/*"), path("get", "/healthz/x/y"), true},
		"wildcard needs what is before it":   {urls("get", "/healthz/*"), path("get", "/healthz"), false},
		"wildcard only at the end":           {urls("get", "/*/x"), path("get", "/healthz/x"), false},
		"all paths":                          {urls("*", "*"), path("post", "/anything"), true},
		"resources do not allow paths":       {resourceRule("*", "*", "*"), path("get", "/metrics"), false},
		"paths do not allow resources":       {urls("*", "*"), ask("get", "", "pods", "", "a"), false},
	} {
		if got := ruleAllows(&x.rule, x.ask); got != x.want {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}

func TestMissing(t *testing.T) {
	for name, x := range map[string]struct {
		owned, wanted []rbacv1.PolicyRule
		missing       int
	}{
		"same":                         {[]rbacv1.PolicyRule{resourceRule("get", "", "pods")}, []rbacv1.PolicyRule{resourceRule("get", "", "pods")}, 0},
		"put together from two":        {[]rbacv1.PolicyRule{resourceRule("get", "", "pods"), resourceRule("list", "", "pods")}, []rbacv1.PolicyRule{{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods"}}}, 0},
		"one of four":                  {[]rbacv1.PolicyRule{resourceRule("get", "", "*"), resourceRule("list", "", "pods")}, []rbacv1.PolicyRule{{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods", "secrets"}}}, 1},
		"all verbs from some":          {[]rbacv1.PolicyRule{resourceRule("get", "", "pods")}, []rbacv1.PolicyRule{resourceRule("*", "", "pods")}, 1},
		"all resources from some":      {[]rbacv1.PolicyRule{resourceRule("get", "", "pods")}, []rbacv1.PolicyRule{resourceRule("get", "", "*")}, 1},
		"name from all names":          {[]rbacv1.PolicyRule{resourceRule("get", "", "pods")}, []rbacv1.PolicyRule{resourceRule("get", "", "pods", "a", "b")}, 0},
		"all names from a name":        {[]rbacv1.PolicyRule{resourceRule("get", "", "pods", "a")}, []rbacv1.PolicyRule{resourceRule("get", "", "pods")}, 1},
		"second name":                  {[]rbacv1.PolicyRule{resourceRule("get", "", "pods", "a")}, []rbacv1.PolicyRule{resourceRule("get", "", "pods", "a", "b")}, 1},
		"subresource of all":           {[]rbacv1.PolicyRule{resourceRule("get", "apps", "*/scale")}, []rbacv1.PolicyRule{resourceRule("get", "apps", "deployments/scale")}, 0},
		"all subresources of that":     {[]rbacv1.PolicyRule{resourceRule("get", "apps", "deployments/scale")}, []rbacv1.PolicyRule{resourceRule("get", "apps", "*/scale")}, 1},
		"path below":                   {[]rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/api/*"}}}, []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/api/v1", "/api/v1/*"}}}, 0},
		"path above":                   {[]rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/api/*"}}}, []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"*"}}}, 1},
		"nothing wanted":               {nil, nil, 0},
		"resources and paths together": {[]rbacv1.PolicyRule{resourceRule("*", "*", "*")}, []rbacv1.PolicyRule{resourceRule("get", "", "pods"), {Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}}, 1},
	} {
		if got := Missing(x.owned, x.wanted); len(got) != x.missing {
			t.Errorf("%s: missing %v, want %d", name, got, x.missing)
		}
	}
}

func TestNodeName(t *testing.T) {
	for _, x := range []struct {
		name, group, want string
	}{
		{"system:node:n1", user.NodesGroup, "n1"}, {"system:node:n1", "others", ""}, {"jane", user.NodesGroup, ""}, {"system:node:", user.NodesGroup, ""},
	} {
		if got := NodeName(&user.DefaultInfo{Name: x.name, Groups: []string{x.group}}); got != x.want {
			t.Errorf("%s in %s: %q, want %q", x.name, x.group, got, x.want)
		}
	}
}

// Every way in which a pod uses an object lets its node read it.
func TestReferences(t *testing.T) {
	local := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	volume := func(s corev1.VolumeSource) corev1.Volume { return corev1.Volume{Name: "v", VolumeSource: s} }
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{
		NodeName: "n1", ServiceAccountName: "sa", ImagePullSecrets: []corev1.LocalObjectReference{local("pull")},
		InitContainers: []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local("init")}}}}}},
		Containers:     []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("from")}}}}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local("debug")}}}},
		}}},
		Volumes: []corev1.Volume{
			volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol"}}),
			volume(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}),
			volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("projected")}}}}}),
		},
	}}
	have := map[string]bool{}
	for _, k := range podUses(p) {
		have[k] = true
	}
	want := [][2]string{
		{"serviceaccounts", "sa"}, {"secrets", "pull"}, {"secrets", "init"}, {"configmaps", "from"}, {"configmaps", "debug"},
		{"secrets", "vol"}, {"persistentvolumeclaims", "claim"}, {"configmaps", "projected"},
	}
	for _, w := range want {
		if !have[useKey("n1", w[0], "ns", w[1])] {
			t.Errorf("%s %s is not counted", w[0], w[1])
		}
	}
	if len(have) != len(want) {
		t.Errorf("%d objects, want %d", len(have), len(want))
	}
	p.Spec.NodeName = ""
	if len(podUses(p)) != 0 {
		t.Error("a pod without a node opens something to one")
	}
}
