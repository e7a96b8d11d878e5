package aggregator_test

import (
	"net/http"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/cmd/explain"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// TestExplain asks the real kubectl for a kind that another server has.
func TestExplain(t *testing.T) {
	c := start(t)
	c.service()
	c.register(c.bundle)
	c.available("v1alpha1.wardle.example.com", "Passed")
	c.until(group+"/v1alpha1", func(code int, _ string) bool { return code == http.StatusOK })
	c.until("/openapi/v3", func(_ int, body string) bool { return strings.Contains(body, "wardle.example.com") })
	c.until("/apis", func(_ int, body string) bool { return strings.Contains(body, "wardle.example.com") })
	for _, tc := range []struct{ what, version, want string }{
		{"flunder", "", "GROUP:      wardle.example.com\nKIND:       Flunder\nVERSION:    v1alpha1\n\nDESCRIPTION:\n    a flunder of another server\n    \nFIELDS:\n  spec\t<FlunderSpec> -required-\n    <no description>"},
		{"flunders.spec.reference", "wardle.example.com/v1alpha1", "FIELD: reference <string>\n\n\nDESCRIPTION:\n    what it is for"},
	} {
		dir := t.TempDir()
		flags := genericclioptions.NewConfigFlags(false)
		flags.APIServer, flags.CacheDir = &c.url, &dir
		flags.WrapConfigFn = func(r *rest.Config) *rest.Config {
			r.BearerToken = "alice" // by itself kubectl says nothing without TLS
			return r
		}
		streams, _, out, _ := genericiooptions.NewTestIOStreams()
		cmd := explain.NewCmdExplain("kubectl", cmdutil.NewFactory(flags), streams)
		cmd.SetArgs([]string{tc.what, "--api-version=" + tc.version})
		cmdutil.BehaviorOnFatal(func(text string, _ int) { t.Errorf("%s: %s", tc.what, text) })
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s:\n%q\nwant\n%q", tc.what, out, tc.want)
		}
	}
	cmdutil.DefaultBehaviorOnFatal()
}
