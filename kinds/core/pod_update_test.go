package core

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const manyFields = `
metadata: {name: web, namespace: default}
spec:
  activeDeadlineSeconds: 100
  automountServiceAccountToken: true
  dnsPolicy: ClusterFirst
  dnsConfig: {nameservers: [10.0.0.1], searches: [a.b], options: [{name: ndots, value: "2"}]}
  enableServiceLinks: true
  hostname: web
  subdomain: sub
  nodeName: node
  nodeSelector: {disk: ssd}
  priority: 5
  priorityClassName: high
  preemptionPolicy: Never
  restartPolicy: Always
  runtimeClassName: r
  schedulerName: s
  serviceAccountName: sa
  terminationGracePeriodSeconds: 30
  securityContext: {runAsUser: 1, runAsNonRoot: true, fsGroup: 2, seccompProfile: {type: RuntimeDefault}}
  hostAliases: [{ip: 10.0.0.2, hostnames: [h]}]
  imagePullSecrets: [{name: s}]
  readinessGates: [{conditionType: a/b}]
  tolerations: [{key: k, operator: Equal, value: v, effect: NoExecute, tolerationSeconds: 5}]
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {a: b}}}]
  affinity:
    nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: k, operator: In, values: [v]}]}]}}
    podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 5, podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {a: b}}}}]}
  volumes:
  - {name: v, emptyDir: {sizeLimit: 1Gi}}
  - {name: c, configMap: {name: c, defaultMode: 420, items: [{key: k, path: p}]}}
  - {name: s, secret: {secretName: s, optional: true}}
  containers:
  - name: a
    image: a:1
    command: [sh]
    args: [x]
    workingDir: /w
    imagePullPolicy: Never
    ports: [{name: http, containerPort: 80, hostPort: 80, protocol: TCP}]
    env: [{name: A, value: b}, {name: F, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    envFrom: [{configMapRef: {name: c}, prefix: P}]
    resources: {requests: {cpu: 100m}, limits: {cpu: 200m}}
    volumeMounts: [{name: v, mountPath: /v, subPath: s}]
    livenessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 3}
    lifecycle: {preStop: {exec: {command: [x]}}}
    securityContext: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    terminationMessagePath: /t
    tty: true
    stdin: true
  initContainers:
  - {name: i, image: "i:1", command: [x]}
`

// TestPodUpdateAllowsNothingElse changes every value of a pod's specification,
// one at a time, and expects a refusal of all but the few that may change.
func TestPodUpdateAllowsNothingElse(t *testing.T) {
	raw, err := yaml.YAMLToJSON([]byte(manyFields))
	if err != nil {
		t.Fatal(err)
	}
	d := Pod()
	decode := func(b []byte) *corev1.Pod {
		p := &corev1.Pod{}
		if json.Unmarshal(b, p) != nil {
			return nil
		}
		d.Default(p)
		return p
	}
	old := decode(raw)
	if errs := d.ValidateUpdate(decode(raw), old); len(errs) > 0 {
		t.Fatalf("an unchanged pod is refused: %v", errs.ToAggregate())
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		t.Fatal(err)
	}
	allowed := regexp.MustCompile(`^/(initC|c)ontainers/\d+/image$|^/tolerations/0/tolerationSeconds$`)
	tried := 0
	var walk func(path string, get any, set func(any))
	try := func(path string, was, now any, set func(any)) {
		set(now)
		b, err := json.Marshal(tree)
		set(was)
		if err != nil {
			t.Fatal(err)
		}
		p := decode(b)
		if p == nil {
			return
		}
		tried++
		if refused := len(d.ValidateUpdate(p, old)) > 0; refused == allowed.MatchString(path) {
			t.Errorf("%s: %v to %v: refused: %v", path, was, now, refused)
		}
	}
	walk = func(path string, node any, set func(any)) {
		switch n := node.(type) {
		case map[string]any:
			for k, v := range n {
				walk(path+"/"+k, v, func(x any) { n[k] = x })
			}
		case []any:
			for i, v := range n {
				walk(fmt.Sprintf("%s/%d", path, i), v, func(x any) { n[i] = x })
			}
		case string:
			try(path, n, n+"x", set)
		case float64:
			try(path, n, n+1, set)
		case bool:
			try(path, n, !n, set)
		}
	}
	walk("", tree["spec"], nil)
	if tried < 80 {
		t.Errorf("only %d values were tried", tried)
	}
}
