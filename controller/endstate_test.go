package controller_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
)

// endState is what is in a cluster, one line an object, without what no two runs
// share: times, revisions, uids, counts of writes, names and addresses given out.
func endState(c *cluster) []string {
	names := map[string]string{}
	var all []object.Object
	for _, d := range c.c.Scheme().All() {
		if d.Virtual || d.Verbs != nil || d.Kind == "Event" || d.Kind == "Lease" {
			continue
		}
		l, err := c.c.List(c.Context(), d, "", client.ListOptions{})
		if err != nil {
			c.Fatal(err)
		}
		for _, o := range l.Items {
			all = append(all, o)
			names[string(o.GetUID())] = "uid of " + d.Kind
			if g := o.GetGenerateName(); g != "" {
				names[o.GetName()] = g + "*"
				if ref := metav1.GetControllerOf(o); ref != nil && ref.Kind == "Job" {
					for _, cron := range []string{"tick", "endless"} {
						if strings.HasPrefix(ref.Name, cron+"-") {
							names[o.GetName()] = cron + "-*-*"
						}
					}
				}
			}
			if ref := metav1.GetControllerOf(o); ref != nil && ref.Kind == "CronJob" {
				names[o.GetName()] = ref.Name + "-*" // by the minute it was due
			}
		}
	}
	// Longest first: the name of one may begin with that of another.
	var pairs []string
	for _, from := range slices.SortedFunc(maps.Keys(names), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }) {
		pairs = append(pairs, from, names[from])
	}
	replace := strings.NewReplacer(pairs...)
	shared := func(s string) string { return anyUID.ReplaceAllString(replace.Replace(s), "uid of what is gone") }
	var lines []string
	for _, o := range all {
		if p, ok := o.(*corev1.Pod); ok && len(p.Status.Conditions) > 0 {
			// An eviction that was begun when its cause passed is taken back, which stays visible.
			p = p.DeepCopy()
			p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionFalse
			})
			o = p
		}
		b, err := json.Marshal(o)
		if err != nil {
			c.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(b, &tree); err != nil {
			c.Fatal(err)
		}
		d := c.c.Scheme().ByObject(o)
		if j, ok := o.(*batchv1.Job); ok && j.Spec.Completions != nil && j.Status.Succeeded > *j.Spec.Completions {
			// A pod whose creation was not heard of is made again; both may succeed.
			tree.(map[string]any)["status"].(map[string]any)["succeeded"] = *j.Spec.Completions
		}
		if c, ok := o.(*corev1.PersistentVolumeClaim); ok && c.DeletionTimestamp != nil && len(c.Status.Conditions) > 0 {
			// Whether it is used is told no more, and may not have been told in time.
			delete(tree.(map[string]any)["status"].(map[string]any), "conditions")
		}
		key := shared(object.KeyOf(o).String())
		if d.Kind == "EndpointSlice" {
			// One whose creation was not heard of is made again, and both are filled.
			slice := tree.(map[string]any)
			all, _ := slice["endpoints"].([]any)
			delete(slice, "endpoints")
			for _, e := range all {
				text, err := json.Marshal(normal(d.Kind, e, shared))
				if err != nil {
					c.Fatal(err)
				}
				lines = append(lines, fmt.Sprintf("Endpoint %s %s", key, text))
			}
		}
		clean, err := json.Marshal(normal(d.Kind, tree, shared))
		if err != nil {
			c.Fatal(err)
		}
		if ref := metav1.GetControllerOf(o); ref != nil && ref.Kind == "Job" && len(o.GetFinalizers()) == 0 {
			continue // counted; a surplus one may be gone or not
		}
		line := fmt.Sprintf("%s %s %s", d.Kind, key, clean)
		if d.Kind != "EndpointSlice" || !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

var anyUID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// unshared are the fields that differ from run to run, with the reasons.
var unshared = map[string]bool{
	"resourceVersion": true, "creationTimestamp": true, "managedFields": true, "generation": true, "observedGeneration": true,
	"podIP": true, "podIPs": true, "addresses": true, "deletionGracePeriodSeconds": true, "podCIDR": true, "podCIDRs": true,
	"terminatingReplicas": true, // of pods that have not gone yet
}

// normal takes out of a decoded object what runs do not share.
func normal(kind string, v any, shared func(string) string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if unshared[k] || strings.HasSuffix(k, "Time") || strings.HasSuffix(k, "Timestamp") || strings.HasSuffix(k, "timestamp") {
				continue
			}
			switch {
			case kind == "Pod" && k == "resourceClaimName", // of a claim that is gone
				kind == "ResourceClaim" && k == "finalizers",
				// One without devices may keep what holds it only while it has some.
				kind == "Job" && (k == "failed" || k == "uncountedTerminatedPods"),
				// A number is lost with a write that was not heard of.
				k == "collisionCount", k == "deployment.kubernetes.io/revision", k == "deployment.kubernetes.io/revision-history", k == "revision",
				k == "endpoints.kubernetes.io/last-change-trigger-time":
				continue
			}
			if y := normal(kind, x, shared); y != nil {
				out[k] = y
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		var out []string
		for _, x := range v {
			b, _ := json.Marshal(normal(kind, x, shared))
			out = append(out, string(b))
		}
		slices.Sort(out)
		raw := make([]json.RawMessage, len(out))
		for i, s := range out {
			raw[i] = json.RawMessage(s)
		}
		return raw
	case string:
		return shared(v)
	default:
		return v
	}
}

// differences lists the lines that only one of two states has; of two lines about
// the same thing only where they part.
func differences(want, got []string) string {
	count := map[string]int{}
	for _, l := range want {
		count[l]--
	}
	for _, l := range got {
		count[l]++
	}
	const shown = 160
	name := func(l string) string {
		kind, rest, _ := strings.Cut(l, " ")
		name, _, _ := strings.Cut(rest, " ")
		return kind + " " + name
	}
	var left, out []string
	for l, n := range count {
		if n != 0 {
			left = append(left, l)
		}
	}
	slices.Sort(left)
	for _, l := range left {
		line := strings.TrimPrefix(l, name(l))
		from := len(line)
		for _, other := range left {
			if other != l && name(other) == name(l) {
				at := 0
				for o := strings.TrimPrefix(other, name(l)); at < min(len(line), len(o)) && line[at] == o[at]; at++ {
				}
				from = min(from, at)
			}
		}
		if from == len(line) { // nothing to compare it with
			from = 0
		}
		from = max(0, from-shown/4)
		out = append(out, fmt.Sprintf("%+d %s: %s", count[l], name(l), line[from:min(len(line), from+shown)]))
	}
	return strings.Join(out, "\n")
}
