package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdmissionConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("quota.yaml", `
apiVersion: apiserver.config.k8s.io/v1
kind: ResourceQuotaConfiguration
limitedResources:
- {resource: pods, matchScopes: [{scopeName: PriorityClass, operator: In, values: [cluster-services]}]}
- {resource: persistentvolumeclaims, matchContains: [.storageclass.storage.k8s.io/requests.storage]}
`)
	c, err := readAdmissionConfig(write("good.yaml", `
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline}
    exemptions: {namespaces: [trusted]}
- {name: ResourceQuota, path: quota.yaml}
- {name: PodNodeSelector, configuration: {podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: a=b, team: a=c}}}
- {name: PodTolerationRestriction, configuration: {apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1, kind: Configuration, default: [{key: a, operator: Exists}], whitelist: [{operator: Exists}]}}
- {name: EventRateLimit, configuration: {apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{type: Server, qps: 10, burst: 50}]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if p := c.podSecurity; p == nil || p.Defaults.Enforce != "baseline" || p.Defaults.EnforceVersion != "latest" || p.Defaults.Warn != "privileged" || len(p.Exemptions.Namespaces) != 1 {
		t.Errorf("pod security: %+v", p)
	}
	if q := c.quota; q == nil || len(q.LimitedResources) != 2 || q.LimitedResources[0].MatchScopes[0].Values[0] != "cluster-services" {
		t.Errorf("quota: %+v", q)
	}
	if len(c.nodeSelectors) != 2 || c.nodeSelectors["team"] != "a=c" {
		t.Errorf("node selectors: %v", c.nodeSelectors)
	}
	if r := c.tolerations; len(r.Default) != 1 || r.Default[0].Key != "a" || len(r.Allowed) != 1 {
		t.Errorf("tolerations: %+v", r)
	}
	if len(c.events) != 1 || c.events[0].Type != "Server" || c.events[0].QPS != 10 || c.events[0].Burst != 50 {
		t.Errorf("limits of events: %+v", c.events)
	}
	if c, err := readAdmissionConfig(""); err != nil || c.podSecurity != nil || c.quota != nil {
		t.Errorf("no file: %+v, %v", c, err)
	}
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"
	for text, want := range map[string]string{
		head + "plugins: [{name: Priority, path: quota.yaml}]":       `plugin "Priority": this admission plugin has no configuration here`,
		head + "plugins: [{name: EventRateLimit, path: quota.yaml}]": `plugin "EventRateLimit": no kind "ResourceQuotaConfiguration" is registered`,
		head + "plugins: [{name: EventRateLimit, configuration: {apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{type: All, qps: 0, burst: 1, cacheSize: -1}]}}]": `[limits[0].type: Unsupported value: "All": supported values: "Namespace", "Server", "SourceAndObject", "User", limits[0].qps: Invalid value: 0: must be positive, limits[0].cacheSize: Invalid value: -1: must not be negative]`,
		head + "plugins: [{name: EventRateLimit, configuration: {apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limit: []}}]":                                              `unknown field "limit"`,
		head + "plugins: [{name: ResourceQuota, path: none.yaml}]":                                  "no such file",
		head + "plugins: [{name: PodSecurity, path: quota.yaml}]":                                   `plugin "PodSecurity"`,
		head + "plugins: [{name: ImagePolicyWebhook, configuration: {imagePolicy: {allowTTL: 1}}}]": "valid value is between 1s and 30m0s, got 1s",
		head + "rules: []": `unknown field "rules"`,
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: []\n": "does not belong here",
	} {
		if _, err := readAdmissionConfig(write("bad.yaml", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
