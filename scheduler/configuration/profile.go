package configuration

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
	configv1 "k8s.io/kube-scheduler/config/v1"
)

func readProfile(path *field.Path, in *configv1.KubeSchedulerProfile, alone bool) (*Profile, []error) {
	var errs []error
	out := &Profile{Filters: map[string]bool{}, Weights: map[string]int64{}}
	switch {
	case in.SchedulerName != nil:
		out.Name = *in.SchedulerName
	case alone:
		out.Name = defaultName
	}
	if out.Name == "" {
		errs = append(errs, field.Required(path.Child("schedulerName"), ""))
	}
	if n := in.PercentageOfNodesToScore; n != nil && (*n < 0 || *n > 100) {
		errs = append(errs, field.Invalid(path.Child("percentageOfNodesToScore"), *n, "not in valid range [0-100]"))
	}
	errs = append(errs, out.choose(path.Child("plugins"), in.Plugins)...)
	return out, append(errs, readArgs(path.Child("pluginConfig"), in.PluginConfig, &out.Args)...)
}

// set is one point's plugins as the file has them.
type set struct {
	at   point
	json string
	configv1.PluginSet
}

func setsOf(p *configv1.Plugins) []set {
	return []set{
		{preEnqueue, "preEnqueue", p.PreEnqueue}, {queueSort, "queueSort", p.QueueSort}, {preFilter, "preFilter", p.PreFilter},
		{filter, "filter", p.Filter}, {postFilter, "postFilter", p.PostFilter}, {preScore, "preScore", p.PreScore},
		{score, "score", p.Score}, {reserve, "reserve", p.Reserve}, {permit, "permit", p.Permit},
		{preBind, "preBind", p.PreBind}, {bind, "bind", p.Bind}, {postBind, "postBind", p.PostBind},
		{"PlacementGenerate", "placementGenerate", p.PlacementGenerate}, {"PlacementScore", "placementScore", p.PlacementScore},
		{"PodGroupPostFilter", "podGroupPostFilter", p.PodGroupPostFilter},
	}
}

// choose works out which plugins are enabled at which points: those of
// multiPoint wherever they extend, unless a point disables them, and those that
// a point enables itself.
func (out *Profile) choose(path *field.Path, p *configv1.Plugins) (errs []error) {
	if p == nil {
		p = &configv1.Plugins{}
	}
	errs = checkNames(path.Child("multiPoint"), "", p.MultiPoint)
	multi := map[string]int32{} // weight by name
	for _, k := range inOrder {
		if !names(p.MultiPoint.Disabled, k.name) {
			multi[k.name] = k.weight
		}
	}
	for _, e := range p.MultiPoint.Enabled {
		multi[e.Name] = weightOf(e)
	}
	enabled := map[point]map[string]int32{}
	for _, s := range setsOf(p) {
		errs = append(errs, checkNames(path.Child(s.json), s.at, s.PluginSet)...)
		on := map[string]int32{}
		for name, weight := range multi {
			if k := lookup(name); k != nil && slices.Contains(k.points, s.at) && !names(s.Disabled, name) {
				on[name] = weight
			}
		}
		for _, e := range s.Enabled {
			on[e.Name] = weightOf(e)
		}
		enabled[s.at] = on
	}
	for _, n := range needed {
		if _, ok := enabled[n.at][n.name]; !ok {
			errs = append(errs, fmt.Errorf("%s: "+n.why, path, out.Name))
		}
	}
	pair := func(first, then point, name string) {
		_, a := enabled[first][name]
		_, b := enabled[then][name]
		if k := lookup(name); a != b && slices.Contains(k.points, first) && slices.Contains(k.points, then) {
			errs = append(errs, field.Invalid(path, name, fmt.Sprintf("%s and %s must be enabled or disabled together", first, then)))
		}
	}
	for _, k := range inOrder {
		pair(preFilter, filter, k.name)
		pair(preScore, score, k.name)
		pair(reserve, preBind, k.name)
		if _, on := enabled[filter][k.name]; on {
			out.Filters[k.name] = true
		}
		if w, on := enabled[score][k.name]; on {
			out.Weights[k.name] = int64(max(w, 1))
		}
	}
	_, out.Preempts = enabled[postFilter]["DefaultPreemption"]
	return errs
}

func weightOf(p configv1.Plugin) int32 {
	if p.Weight == nil {
		return 0
	}
	return *p.Weight
}

// names tells whether a list of disabled plugins has a name or all.
func names(list []configv1.Plugin, name string) bool {
	return slices.ContainsFunc(list, func(p configv1.Plugin) bool { return p.Name == name || p.Name == "*" })
}

// checkNames checks the plugins that a point enables; at is empty for
// multiPoint.
func checkNames(path *field.Path, at point, s configv1.PluginSet) (errs []error) {
	seen := map[string]bool{}
	for i, e := range s.Enabled {
		p := path.Child("enabled").Index(i)
		k := lookup(e.Name)
		switch {
		case seen[e.Name]:
			errs = append(errs, fmt.Errorf("%s: plugin %q already registered", p, e.Name))
		case removed[e.Name] && at != "":
			errs = append(errs, wasRemoved(p, e.Name))
		case elsewhere[e.Name]:
			errs = append(errs, field.Forbidden(p, fmt.Sprintf("plugin %q is not served by this version", e.Name)))
		case k == nil && at == "":
			errs = append(errs, fmt.Errorf("%s: plugin %q does not exist", p, e.Name))
		case k == nil:
			errs = append(errs, fmt.Errorf("%s: %sPlugin %q does not exist", p, at, e.Name))
		case at != "" && !slices.Contains(k.points, at):
			errs = append(errs, fmt.Errorf("%s: plugin %q does not extend %sPlugin plugin", p, e.Name, at))
		case e.Weight != nil && *e.Weight < 0:
			errs = append(errs, field.Invalid(p.Child("weight"), *e.Weight, "must not be negative"))
		case e.Weight != nil && int64(*e.Weight) > maxWeight:
			errs = append(errs, field.Invalid(p.Child("weight"), *e.Weight, "total score of Score plugins could overflow"))
		}
		seen[e.Name] = true
	}
	return errs
}

// maxWeight keeps the sum of all scores far from the end of an int64.
const maxWeight = 1 << 30
