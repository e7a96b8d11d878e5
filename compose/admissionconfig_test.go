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
	if c, err := readAdmissionConfig(""); err != nil || c.podSecurity != nil || c.quota != nil {
		t.Errorf("no file: %+v, %v", c, err)
	}
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"
	for text, want := range map[string]string{
		head + "plugins: [{name: EventRateLimit, path: quota.yaml}]": `plugin "EventRateLimit": this admission plugin has no configuration here`,
		head + "plugins: [{name: ResourceQuota, path: none.yaml}]":   "no such file",
		head + "plugins: [{name: PodSecurity, path: quota.yaml}]":    `plugin "PodSecurity"`,
		head + "rules: []": `unknown field "rules"`,
		"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: []\n": "does not belong here",
	} {
		if _, err := readAdmissionConfig(write("bad.yaml", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
