package configuration

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	componentv1 "k8s.io/component-base/config/v1alpha1"
	configv1 "k8s.io/kube-scheduler/config/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	groupVersion = "kubescheduler.config.k8s.io/v1"
	kind         = "KubeSchedulerConfiguration"
)

// Read reads a file in YAML or JSON, fills in upstream's defaults and checks it
// by upstream's rules. Every fault found is reported. Nothing read is the
// defaults.
func Read(data []byte) (*Configuration, error) {
	in := &configv1.KubeSchedulerConfiguration{}
	if data != nil {
		if err := strictly(data, in); err != nil {
			return nil, err
		}
		if in.Kind == "" {
			return nil, errors.New("Object 'Kind' is missing")
		}
		if in.APIVersion != groupVersion || in.Kind != kind {
			return nil, fmt.Errorf("no kind %q is registered for version %q", in.Kind, in.APIVersion)
		}
	}
	out := &Configuration{Warnings: meaningless(in)}
	errs := checkTop(in)
	path := field.NewPath("profiles")
	if len(in.Profiles) == 0 {
		in.Profiles = []configv1.KubeSchedulerProfile{{}}
	}
	names := map[string]int{}
	for i := range in.Profiles {
		p, wrong := readProfile(path.Index(i), &in.Profiles[i], len(in.Profiles) == 1)
		errs = append(errs, wrong...)
		if first, twice := names[p.Name]; twice {
			errs = append(errs, field.Duplicate(path.Index(i).Child("schedulerName"), path.Index(first).Child("schedulerName")))
		}
		names[p.Name] = i
		out.Profiles = append(out.Profiles, *p)
		if first, own := queueSortOf(&in.Profiles[0]), queueSortOf(&in.Profiles[i]); !equality.Semantic.DeepEqual(first, own) {
			errs = append(errs, field.Invalid(path.Index(i).Child("plugins", "queueSort"), own, "must be the same for all profiles"))
		}
	}
	out.InitialBackoff = seconds(in.PodInitialBackoffSeconds, 1)
	out.MaxBackoff = seconds(in.PodMaxBackoffSeconds, 10)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

func queueSortOf(p *configv1.KubeSchedulerProfile) configv1.PluginSet {
	if p.Plugins == nil {
		return configv1.PluginSet{}
	}
	return p.Plugins.QueueSort
}

// strictly decodes without unknown or doubled fields.
func strictly(data []byte, into any) error {
	j, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return fmt.Errorf("strict decoding error: %w", err)
	}
	strict, err := kjson.UnmarshalStrict(j, into)
	if err != nil {
		return err
	}
	if err := errors.Join(strict...); err != nil {
		return fmt.Errorf("strict decoding error: %w", err)
	}
	return nil
}

func seconds(n *int64, otherwise int64) time.Duration {
	if n != nil {
		otherwise = *n
	}
	return time.Duration(otherwise) * time.Second
}

// longest is the most seconds that fit a Duration.
const longest = int64(1<<63-1) / int64(time.Second)

func checkTop(in *configv1.KubeSchedulerConfiguration) (errs []error) {
	invalid := func(name string, value any, why string) {
		errs = append(errs, field.Invalid(field.NewPath(name), value, why))
	}
	if in.ClientConnection.Burst < 0 {
		errs = append(errs, field.Invalid(field.NewPath("clientConnection", "burst"), in.ClientConnection.Burst, "must be non-negative"))
	}
	errs = append(errs, checkLead(in.LeaderElection)...)
	if in.Parallelism != nil && *in.Parallelism <= 0 {
		invalid("parallelism", *in.Parallelism, "should be an integer value greater than zero")
	}
	if n := in.PercentageOfNodesToScore; n != nil && (*n < 0 || *n > 100) {
		invalid("percentageOfNodesToScore", *n, "not in valid range [0-100]")
	}
	first, most := int64(1), int64(10)
	if in.PodInitialBackoffSeconds != nil {
		first = *in.PodInitialBackoffSeconds
	}
	if in.PodMaxBackoffSeconds != nil {
		most = *in.PodMaxBackoffSeconds
	}
	if first <= 0 {
		invalid("podInitialBackoffSeconds", first, "must be greater than 0")
	}
	if most < first {
		invalid("podMaxBackoffSeconds", most, "must be greater than or equal to PodInitialBackoffSeconds")
	}
	if most > longest {
		invalid("podMaxBackoffSeconds", most, fmt.Sprintf("must be %d at most", longest))
	}
	if len(in.Extenders) > 0 {
		errs = append(errs, field.Forbidden(field.NewPath("extenders"), "extenders are not called by this version"))
	}
	return errs
}

// checkLead checks what leader election was given, although there is none here.
func checkLead(in componentv1.LeaderElectionConfiguration) (errs []error) {
	if in.ResourceLock == "" {
		in.ResourceLock = "leases"
	}
	componentv1.RecommendedDefaultLeaderElectionConfiguration(&in)
	if !*in.LeaderElect {
		return nil
	}
	path := field.NewPath("leaderElection")
	for _, d := range []struct {
		name string
		metav1.Duration
	}{{"leaseDuration", in.LeaseDuration}, {"renewDeadline", in.RenewDeadline}, {"retryPeriod", in.RetryPeriod}} {
		if d.Duration.Duration <= 0 {
			errs = append(errs, field.Invalid(path.Child(d.name), d.Duration, "must be greater than zero"))
		}
	}
	if in.LeaseDuration.Duration <= in.RenewDeadline.Duration {
		errs = append(errs, field.Invalid(path.Child("leaseDuration"), in.RenewDeadline, "must be greater than `RenewDeadline`"))
	}
	if in.ResourceLock != "leases" {
		errs = append(errs, field.Invalid(path.Child("resourceLock"), in.ResourceLock, `resourceLock value must be "leases"`))
	}
	return errs
}

// meaningless tells of settings that concern a scheduler in a process of its
// own, or one that looks at a part of the nodes only.
func meaningless(in *configv1.KubeSchedulerConfiguration) (warnings []string) {
	warn := func(is bool, name, why string) {
		if is {
			warnings = append(warnings, name+": "+why)
		}
	}
	const inside = "has no effect: the scheduler runs inside the server"
	lead := in.LeaderElection
	warn(!reflect.DeepEqual(lead, componentv1.LeaderElectionConfiguration{}), "leaderElection", inside)
	warn(in.ClientConnection != (componentv1.ClientConnectionConfiguration{}), "clientConnection", inside)
	warn(in.EnableProfiling != nil || in.EnableContentionProfiling != nil, "enableProfiling", inside)
	warn(in.DelayCacheUntilActive, "delayCacheUntilActive", inside)
	warn(in.Parallelism != nil, "parallelism", "has no effect: one core places pods")
	for i := range in.Profiles {
		if p := in.Profiles[i].Plugins; p != nil {
			named := slices.ContainsFunc(append(setsOf(p), set{PluginSet: p.MultiPoint}), func(s set) bool {
				return slices.ContainsFunc(slices.Concat(s.Enabled, s.Disabled), func(x configv1.Plugin) bool { return x.Name == gangScheduling })
			})
			warn(named, fmt.Sprintf("profiles[%d].plugins", i), gangScheduling+" is in every profile while the feature GenericWorkload is on, and in none while it is off")
		}
	}
	percentage := in.PercentageOfNodesToScore != nil
	for i := range in.Profiles {
		percentage = percentage || in.Profiles[i].PercentageOfNodesToScore != nil
	}
	warn(percentage, "percentageOfNodesToScore", "has no effect: every node is considered, at no extra cost")
	return warnings
}
