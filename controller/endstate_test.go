package controller_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
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
			}
		}
	}
	var lines []string
	for _, o := range all {
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
		clean, err := json.Marshal(normal(d.Kind, tree, names))
		if err != nil {
			c.Fatal(err)
		}
		if ref := metav1.GetControllerOf(o); ref != nil && ref.Kind == "Job" && len(o.GetFinalizers()) == 0 {
			continue // counted; a surplus one may be gone or not
		}
		lines = append(lines, d.Kind+" "+string(clean))
	}
	slices.Sort(lines)
	return lines
}

// unshared are the fields that differ from run to run, with the reasons.
var unshared = map[string]bool{
	"resourceVersion": true, "creationTimestamp": true, "managedFields": true, "generation": true, "observedGeneration": true,
	"podIP": true, "podIPs": true, "addresses": true, "deletionGracePeriodSeconds": true, "podCIDR": true, "podCIDRs": true,
	"terminatingReplicas": true, // of pods that have not gone yet
}

// normal takes out of a decoded object what runs do not share.
func normal(kind string, v any, names map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if unshared[k] || strings.HasSuffix(k, "Time") || strings.HasSuffix(k, "Timestamp") || strings.HasSuffix(k, "timestamp") {
				continue
			}
			switch {
			case kind == "Job" && (k == "failed" || k == "uncountedTerminatedPods"),
				// A number is lost with a write that was not heard of.
				k == "collisionCount", k == "deployment.kubernetes.io/revision", k == "deployment.kubernetes.io/revision-history", k == "revision",
				k == "endpoints.kubernetes.io/last-change-trigger-time":
				continue
			}
			if y := normal(kind, x, names); y != nil {
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
			b, _ := json.Marshal(normal(kind, x, names))
			out = append(out, string(b))
		}
		slices.Sort(out)
		raw := make([]json.RawMessage, len(out))
		for i, s := range out {
			raw[i] = json.RawMessage(s)
		}
		return raw
	case string:
		for from, to := range names {
			if strings.Contains(v, from) {
				v = strings.ReplaceAll(v, from, to)
			}
		}
		return v
	default:
		return v
	}
}

// differences lists the lines that only one of two states has.
func differences(want, got []string) string {
	count := map[string]int{}
	for _, l := range want {
		count[l]--
	}
	for _, l := range got {
		count[l]++
	}
	var out []string
	for l, n := range count {
		if n != 0 {
			out = append(out, fmt.Sprintf("%+d %s", n, l))
		}
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(a[3:], b[3:]) })
	return strings.Join(out, "\n")
}
