package configuration

import (
	configv1 "k8s.io/kube-scheduler/config/v1"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

func TestDefaults(t *testing.T) {
	for name, text := range map[string]string{"no file": "", "only its kind": head, "JSON": `{"apiVersion":"kubescheduler.config.k8s.io/v1","kind":"KubeSchedulerConfiguration"}`} {
		var data []byte
		if text != "" {
			data = []byte(text)
		}
		c, err := Read(data)
		if err != nil {
			t.Fatal(name, err)
		}
		if len(c.Profiles) != 1 || c.Profiles[0].Name != "default-scheduler" || !c.Profiles[0].Preempts || c.InitialBackoff != time.Second || c.MaxBackoff != 10*time.Second {
			t.Errorf("%s: %+v", name, c)
		}
		want := map[string]int64{
			"TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "VolumeBinding": 1, "PodTopologySpread": 2, "InterPodAffinity": 2,
			"NodeResourcesBalancedAllocation": 1, "ImageLocality": 1, "DynamicResources": 2,
		}
		if got := c.Profiles[0].Weights; !maps.Equal(got, want) {
			t.Errorf("%s: weights %v", name, got)
		}
		if got := len(c.Profiles[0].Filters); got != 14 {
			t.Errorf("%s: %d filters: %v", name, got, c.Profiles[0].Filters)
		}
	}
	if !reflect.DeepEqual(Default(), Default()) {
		t.Error("two defaults differ")
	}
}

func TestProfiles(t *testing.T) {
	c, err := Read([]byte(head + `
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
profiles:
- schedulerName: packed
  plugins:
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 7}]
    preScore:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit}]
    postFilter:
      disabled: [{name: DefaultPreemption}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy:
        type: MostAllocated
        resources: [{name: cpu, weight: 3}, {name: nvidia.com/gpu}]
  - name: PodTopologySpread
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: PodTopologySpreadArgs
      defaultingType: List
      defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
- schedulerName: plain
  plugins:
    multiPoint:
      disabled: [{name: InterPodAffinity}, {name: DynamicResources}]
      enabled: [{name: TaintToleration, weight: 9}]
`))
	if err != nil {
		t.Fatal(err)
	}
	packed, plain := c.Profiles[0], c.Profiles[1]
	if got := packed.Weights; !maps.Equal(got, map[string]int64{"NodeResourcesFit": 7}) {
		t.Errorf("weights %v", got)
	}
	if packed.Preempts || !plain.Preempts {
		t.Error("pre-emption is on where it is disabled, or the reverse")
	}
	if s := packed.Args.Fit.ScoringStrategy; s.Type != "MostAllocated" || len(s.Resources) != 2 || s.Resources[1].Weight != 1 {
		t.Errorf("strategy %+v", s)
	}
	if s := packed.Args.Spread; s.DefaultingType != "List" || len(s.DefaultConstraints) != 1 {
		t.Errorf("spreading %+v", s)
	}
	if plain.Filters["InterPodAffinity"] || plain.Weights["InterPodAffinity"] != 0 || !packed.Filters["InterPodAffinity"] {
		t.Error("a rule is on where it is disabled, or the reverse")
	}
	if plain.Weights["TaintToleration"] != 9 {
		t.Errorf("weight %d", plain.Weights["TaintToleration"])
	}
	if c.InitialBackoff != 2*time.Second || c.MaxBackoff != 20*time.Second {
		t.Errorf("back-off %v to %v", c.InitialBackoff, c.MaxBackoff)
	}
}

// What upstream refuses is refused in its words; what we cannot do, clearly.
func TestFaults(t *testing.T) {
	fit := func(text string) string {
		return profile("pluginConfig:\n- name: NodeResourcesFit\n  args: " + text)
	}
	for name, x := range map[string]struct{ text, want string }{
		"not YAML":       {"a: [", "strict decoding error"},
		"twice":          {head + "parallelism: 1\nparallelism: 2\n", `key "parallelism" already set in map`},
		"unknown":        {head + "parallel: 1\n", `strict decoding error: unknown field "parallel"`},
		"unknown deeper": {profile("schedulerNme: x"), `unknown field "profiles[0].schedulerNme"`},
		"no kind":        {"{}", "Object 'Kind' is missing"},
		"old version":    {"apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration\n", `no kind "KubeSchedulerConfiguration" is registered for version "kubescheduler.config.k8s.io/v1beta3"`},
		"burst":          {head + "clientConnection: {burst: -1}\n", "clientConnection.burst: Invalid value: -1: must be non-negative"},
		"lock":           {head + "leaderElection: {resourceLock: endpoints}\n", `leaderElection.resourceLock: Invalid value: "endpoints": resourceLock value must be "leases"`},
		"short lease":    {head + "leaderElection: {leaseDuration: 10s}\n", "leaderElection.leaseDuration: Invalid value: \"10s\": must be greater than `RenewDeadline`"},
		"no retry":       {head + "leaderElection: {retryPeriod: -1s}\n", `leaderElection.retryPeriod: Invalid value: "-1s": must be greater than zero`},
		"orders differ":  {head + "profiles: [{schedulerName: one}, {schedulerName: two, plugins: {queueSort: {enabled: [{name: PrioritySort}]}}}]\n", "profiles[1].plugins.queueSort: Invalid value"},
		"removed":        {profile("plugins:\n  filter:\n    enabled: [{name: EBSLimits}]"), `profiles[0].plugins.filter.enabled[0]: Invalid value: "EBSLimits": was invalid in version "v1" (KubeSchedulerConfiguration is version "kubescheduler.config.k8s.io/v1")`},
		"removed args":   {profile("pluginConfig:\n- name: CinderLimits"), `profiles[0].pluginConfig[0]: Invalid value: "CinderLimits": was invalid in version "v1"`},
		"extenders":      {head + "extenders: [{urlPrefix: http://x}]\n", "extenders: Forbidden: extenders are not called by this version"},
		"parallelism":    {head + "parallelism: 0\n", "parallelism: Invalid value: 0: should be an integer value greater than zero"},
		"percentage":     {head + "percentageOfNodesToScore: 101\n", "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"},
		"back-off":       {head + "podInitialBackoffSeconds: 20\n", "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds"},
		"no back-off":    {head + "podInitialBackoffSeconds: 0\n", "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"},
		"huge back-off":  {head + "podMaxBackoffSeconds: 9223372036854775807\n", "podMaxBackoffSeconds: Invalid value"},
		"empty name":     {profile(`schedulerName: ""`), "profiles[0].schedulerName: Required value"},
		"two unnamed":    {head + "profiles: [{}, {}]\n", "profiles[1].schedulerName: Required value"},
		"same name":      {head + "profiles: [{schedulerName: x}, {schedulerName: x}]\n", "profiles[1].schedulerName: Duplicate value"},
		"no such plugin": {profile("plugins:\n  filter:\n    enabled: [{name: Mine}]"), `FilterPlugin "Mine" does not exist`},
		"not a filter":   {profile("plugins:\n  filter:\n    enabled: [{name: ImageLocality}]"), `plugin "ImageLocality" does not extend FilterPlugin plugin`},
		"elsewhere":      {profile("plugins:\n  multiPoint:\n    enabled: [{name: PodGroupPodsCount}]"), `plugin "PodGroupPodsCount" is not served by this version`},
		"no binder":      {profile("plugins:\n  bind:\n    disabled: [{name: DefaultBinder}]"), `at least one bind plugin is needed for profile with scheduler name "default-scheduler"`},
		"no order":       {profile("plugins:\n  queueSort:\n    disabled: [{name: \"*\"}]"), `only one queue sort plugin required for profile with scheduler name "default-scheduler", but got 0`},
		"half a rule":    {profile("plugins:\n  preFilter:\n    disabled: [{name: PodTopologySpread}]"), "PreFilter and Filter must be enabled or disabled together"},
		"unknown arg":    {fit("{strategy: x}"), `decoding .profiles[0].pluginConfig[0]: decoding args for plugin NodeResourcesFit: strict decoding error: unknown field "strategy"`},
		"wrong kind":     {fit("{kind: NodeAffinityArgs}"), "args for plugin NodeResourcesFit were not of type NodeResourcesFitArgs.kubescheduler.config.k8s.io, got NodeAffinityArgs"},
		"strategy":       {fit("{scoringStrategy: {type: Best}}"), `profiles[0].pluginConfig[0].args.scoringStrategy.type: Unsupported value: "Best"`},
		"no shape":       {fit("{scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {}}}"), "shape: Required value: at least one point must be specified"},
		"shape":          {fit("{scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 5, score: 11}, {utilization: 5, score: 0}]}}}"), "values must be sorted in increasing order"},
		"heavy":          {fit("{scoringStrategy: {type: LeastAllocated, resources: [{name: cpu, weight: 101}]}}"), "resource weight of cpu not in valid range (0, 100]"},
		"group":          {fit("{ignoredResourceGroups: [a/b]}"), "resource group name can't contain '/'"},
		"hard weight":    {profile("pluginConfig:\n- name: InterPodAffinity\n  args: {hardPodAffinityWeight: 101}"), "hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"},
		"both defaults":  {profile("pluginConfig:\n- name: PodTopologySpread\n  args: {defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}"), "when .defaultConstraints are not empty"},
		"selector":       {profile("pluginConfig:\n- name: PodTopologySpread\n  args: {defaultingType: List, defaultConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: Never, labelSelector: {}}]}"), "constraint must not define a selector, as they deduced for each pod"},
		"balance":        {profile("pluginConfig:\n- name: NodeResourcesBalancedAllocation\n  args: {resources: [{name: cpu, weight: 2}]}"), "resources[0].weight: Invalid value: 2: must be 1"},
		"candidates":     {profile("pluginConfig:\n- name: DefaultPreemption\n  args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}"), "cannot be zero at the same time as minCandidateNodesAbsolute"},
		"added affinity": {profile("pluginConfig:\n- name: NodeAffinity\n  args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Like}]}]}}}"), "addedAffinity.requiredDuringSchedulingIgnoredDuringExecution"},
		"volume shape":   {profile("pluginConfig:\n- name: VolumeBinding\n  args: {shape: [{utilization: 0, score: 11}]}"), "shape[0].score: Invalid value: 11: not in valid range [0, 10]"},
		"args twice":     {profile("pluginConfig:\n- name: VolumeBinding\n- name: VolumeBinding"), "profiles[0].pluginConfig[1]: Duplicate value"},
		"no args":        {profile("pluginConfig:\n- name: NodePorts\n  args: {a: b}"), `plugin "NodePorts" takes no arguments`},
		"strange args":   {profile("pluginConfig:\n- name: Mine"), "is no plugin of this scheduler"},
	} {
		c, err := Read([]byte(x.text))
		if err == nil {
			t.Errorf("%s: read as %+v", name, c)
		} else if !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s:\n got %v\nwant %s", name, err, x.want)
		}
	}
}

func profile(text string) string {
	return head + "profiles:\n- " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

func TestVolumesAreScoredByShape(t *testing.T) {
	if got := Default().Profiles[0].Args.VolumeBinding.Shape; !slices.Equal(got, []configv1.UtilizationShapePoint{{Utilization: 0, Score: 10}, {Utilization: 100}}) {
		t.Errorf("by default: %v", got)
	}
	c, err := Read([]byte(profile("pluginConfig:\n- name: VolumeBinding\n  args: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 5}]}")))
	if err != nil || !slices.Equal(c.Profiles[0].Args.VolumeBinding.Shape, []configv1.UtilizationShapePoint{{}, {Utilization: 100, Score: 5}}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestGangSchedulingIsNamed(t *testing.T) {
	for _, at := range []string{"multiPoint: {enabled: [{name: GangScheduling}]}", "preEnqueue: {disabled: [{name: GangScheduling}]}", "permit: {enabled: [{name: GangScheduling}]}"} {
		c, err := Read([]byte(profile("plugins:\n  " + at)))
		if err != nil || !slices.Equal(c.Warnings, []string{"profiles[0].plugins: GangScheduling is in every profile while the feature GenericWorkload is on, and in none while it is off"}) {
			t.Errorf("%s: %+v, %v", at, c, err)
		}
	}
	if _, err := Read([]byte(profile("plugins:\n  filter: {enabled: [{name: GangScheduling}]}"))); err == nil || !strings.Contains(err.Error(), `plugin "GangScheduling" does not extend FilterPlugin plugin`) {
		t.Error(err)
	}
}

func TestWhatHasNoMeaningHereIsSaid(t *testing.T) {
	c, err := Read([]byte(head + "leaderElection: {leaderElect: true}\nclientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf}\npercentageOfNodesToScore: 5\nparallelism: 4\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"leaderElection", "clientConnection", "percentageOfNodesToScore", "parallelism"} {
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.HasPrefix(w, field+":") }) {
			t.Errorf("nothing said of %s: %q", field, c.Warnings)
		}
	}
}

// Whatever is in a file, reading it ends with a configuration that is whole or
// with an error.
func FuzzRead(f *testing.F) {
	f.Add([]byte(head))
	f.Add([]byte(head + "profiles: [{schedulerName: a, plugins: {score: {disabled: [{name: '*'}]}}, pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}]}]"))
	f.Add([]byte(head + "podMaxBackoffSeconds: 99999999999\nextenders: []\n"))
	f.Add([]byte("&a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Read(data)
		if err != nil {
			return
		}
		if len(c.Profiles) == 0 || c.InitialBackoff <= 0 || c.MaxBackoff < c.InitialBackoff {
			t.Errorf("%+v", c)
		}
		for _, p := range c.Profiles {
			if p.Name == "" || p.Args.Fit.ScoringStrategy == nil || p.Args.Affinity.HardPodAffinityWeight == nil {
				t.Errorf("%+v", p)
			}
		}
	})
}
