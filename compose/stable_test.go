package compose

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descName   = regexp.MustCompile(`fqName: "([^"]*)"`)
	descLabels = regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
)

// Every metric that Kubernetes 1.37 calls stable or beta, of the API server,
// controllers and scheduler, is there with its labels, and so is what the usual
// dashboards ask for.
func TestStableMetrics(t *testing.T) {
	s := openServer(t, nil)
	have := map[string][]string{}
	descs := make(chan *prometheus.Desc)
	go func() {
		s.metrics.registry.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		text := d.String()
		var labels []string
		if l := descLabels.FindStringSubmatch(text)[1]; l != "" {
			labels = strings.Split(l, ",")
		}
		have[descName.FindStringSubmatch(text)[1]] = labels
	}
	// What libraries count has no description here: it is found as it is scraped.
	families, err := s.metrics.gatherers()[1].Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		have[f.GetName()] = labels
	}
	stable, err := os.ReadFile("testdata/stable-metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	asked, err := os.ReadFile("testdata/dashboard-metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(stable) + string(asked)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		labels, ok := have[f[0]]
		if !ok {
			t.Errorf("%s is missing", f[0])
			continue
		}
		want := f[1:]
		slices.Sort(want)
		labels = slices.Clone(labels)
		slices.Sort(labels)
		if !slices.Equal(labels, want) {
			t.Errorf("%s has the labels %v, want %v", f[0], labels, want)
		}
	}
}
