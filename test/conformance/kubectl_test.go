package conformance

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/kubectl/pkg/cmd/apply"
	"k8s.io/kubectl/pkg/cmd/create"
	"k8s.io/kubectl/pkg/cmd/delete"
	"k8s.io/kubectl/pkg/cmd/explain"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// asClient tells kubectl of a server in the process.
type asClient struct{ c *cluster }

func (a asClient) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(a.c.config), nil }

func (a asClient) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	d, err := discovery.NewDiscoveryClientForConfig(a.c.config)
	return memory.NewMemCacheClient(d), err
}

func (a asClient) ToRESTMapper() (apimeta.RESTMapper, error) {
	d, err := a.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(d), d, nil), nil
}

func (a asClient) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	o := &clientcmd.ConfigOverrides{ClusterInfo: clientcmdapi.Cluster{Server: a.c.config.Host}, Context: clientcmdapi.Context{Namespace: ns}}
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), o)
}

// kubectl runs the real one; manifest, when there is one, is its -f.
func (c *cluster) kubectl(manifest string, args ...string) (_ string, err error) {
	c.Helper()
	var out, said bytes.Buffer
	streams := genericiooptions.IOStreams{In: new(bytes.Buffer), Out: &out, ErrOut: &said}
	cmd := &cobra.Command{Use: "kubectl", SilenceUsage: true, SilenceErrors: true}
	f := cmdutil.NewFactory(asClient{c})
	cmd.AddCommand(create.NewCmdCreate(f, streams), apply.NewCmdApply("kubectl", f, streams), delete.NewCmdDelete(f, streams), explain.NewCmdExplain("kubectl", f, streams))
	if manifest != "" {
		file := filepath.Join(c.TempDir(), "manifest.yaml")
		c.ok(os.WriteFile(file, []byte(manifest), 0o600))
		args = append(args, "-f", file)
	}
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&said)
	// kubectl ends the process when a command fails.
	type failure string
	cmdutil.BehaviorOnFatal(func(text string, _ int) { panic(failure(text)) })
	defer cmdutil.DefaultBehaviorOnFatal()
	defer func() {
		if r := recover(); r != nil {
			text, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = errors.New(string(text))
		}
	}()
	if err := cmd.ExecuteContext(c.ctx); err != nil {
		return "", err
	}
	return out.String(), nil
}

func TestCustomResourcePublishOpenAPI(t *testing.T) {
	const group = "publish.example.com"
	const head = "apiVersion: " + group + "/v1\nkind: Foo\nmetadata: {name: test-foo}\n"
	// says demands words in what a command says.
	says := func(c *cluster, words []string, args ...string) {
		c.Helper()
		out, err := c.kubectl("", args...)
		c.ok(err)
		for _, w := range words {
			c.want(strings.Contains(out, w), "kubectl %v lacks %q:\n%s", args, w, out)
		}
	}
	takes := func(c *cluster, manifest string) {
		c.Helper()
		for _, verb := range []string{"create", "delete", "apply", "apply", "delete"} {
			_, err := c.kubectl(manifest, verb)
			c.want(err == nil, "%s: %v", verb, err)
		}
	}
	refuses := func(c *cluster, manifest, word string) {
		c.Helper()
		for _, verb := range []string{"create", "apply"} {
			_, err := c.kubectl(manifest, verb)
			c.want(err != nil && strings.Contains(err.Error(), word), "%s: %v, want %q", verb, err, word)
		}
	}
	conform(t, "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema [Conformance]", func(c *cluster) {
		c.define(definition(group, "foos", "Foo", `{type: object, description: Foo CRD for Testing, properties: {
			spec: {type: object, description: Specification of Foo, properties: {bars: {type: array, description: List of Bars and their specs., items: {type: object, required: [name], properties: {
				name: {type: string, description: Name of Bar.}, age: {type: string, description: Age of Bar.}, bazs: {type: array, description: List of Bazs., items: {type: string}}}}}}},
			status: {type: object, description: Status of Foo, properties: {bars: {type: array, items: {type: object, properties: {name: {type: string}}}}}}}}`))
		takes(c, head+"spec: {bars: [{name: test-bar, age: '10', bazs: [a, b]}]}\n")
		refuses(c, head+"spec: {bars: [{name: test-bar}], unknown: x}\n", `unknown field "spec.unknown"`)
		refuses(c, head+"spec: {bars: [{name: test-bar, unknown: x}]}\n", `unknown field "spec.bars[0].unknown"`)
		refuses(c, head+"spec: {bars: [{age: '10'}]}\n", "spec.bars[0].name: Required value")
		says(c, []string{"GROUP:      " + group, "KIND:       Foo", "VERSION:    v1", "Foo CRD for Testing", "apiVersion\t<string>", "metadata\t<ObjectMeta>", "spec\t<Object>", "Specification of Foo", "Status of Foo"}, "explain", "foos")
		says(c, []string{"ObjectMeta is metadata that all persisted resources must have", "creationTimestamp\t<string>"}, "explain", "foos.metadata")
		says(c, []string{"FIELD: spec <Object>", "Specification of Foo", "bars\t<[]Object>", "List of Bars and their specs."}, "explain", "foos.spec")
		says(c, []string{"FIELD: bars <[]Object>", "bazs\t<[]string>", "List of Bazs.", "name\t<string> -required-", "Name of Bar."}, "explain", "foos.spec.bars")
		_, err := c.kubectl("", "explain", "foos.spec.bars2")
		c.want(err != nil && strings.Contains(err.Error(), `field "bars2" does not exist`), "%v", err)
	})
	conform(t, "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema [Conformance]", func(c *cluster) {
		c.define(definition(group, "foos", "Foo", anything))
		takes(c, head+"a: {b: [{c: d}]}\n")
		says(c, []string{"KIND:       Foo", "DESCRIPTION:\n    <empty>"}, "explain", "foos")
	})
	conform(t, "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root [Conformance]", func(c *cluster) {
		c.define(definition(group, "foos", "Foo", "{type: object, description: preserve-unknown-properties at root for Testing, x-kubernetes-preserve-unknown-fields: true, properties: {spec: {type: object, description: Specification of Waldo}}}"))
		takes(c, head+"a: {b: [{c: d}]}\n")
		says(c, []string{"KIND:       Foo", "preserve-unknown-properties at root"}, "explain", "foos")
	})
	conform(t, "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object [Conformance]", func(c *cluster) {
		c.define(definition(group, "foos", "Foo", `{type: object, description: preserve-unknown-properties in nested field for Testing, properties: {
			spec: {type: object, description: Specification of Waldo, x-kubernetes-preserve-unknown-fields: true, properties: {dummy: {type: string}}},
			status: {type: object, description: Status of Waldo}}}`))
		takes(c, head+"spec: {b: [{c: d}]}\n")
		says(c, []string{"KIND:       Foo", "preserve-unknown-properties in nested field", "spec\t<Object>", "Specification of Waldo"}, "explain", "foos")
		var doc struct {
			Components struct {
				Schemas map[string]struct {
					Properties map[string]map[string]any
				}
			}
		}
		c.read("/openapi/v3/apis/"+group+"/v1", &doc)
		spec := doc.Components.Schemas["com.example.publish.v1.Foo"].Properties["spec"]
		c.want(spec["x-kubernetes-preserve-unknown-fields"] == true, "%v", spec)
	})
}
