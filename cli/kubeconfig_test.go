package cli

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The cluster's context joins what the user has, whole, and leaves again
// without a trace.
func TestKubeconfigIsMergedAndTakenOut(t *testing.T) {
	dir := t.TempDir()
	config := func(name, server string) clientcmdapi.Config {
		return clientcmdapi.Config{
			Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server}},
			AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: name}},
			Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
			CurrentContext: name,
		}
	}
	if err := clientcmd.WriteToFile(config("sagong", "https://127.0.0.1:6443"), kubeconfigPath(dir)); err != nil {
		t.Fatal(err)
	}
	for what, mine := range map[string]bool{"beside another": true, "alone": false} {
		file := filepath.Join(t.TempDir(), "config")
		t.Setenv("KUBECONFIG", file)
		if mine {
			if err := clientcmd.WriteToFile(config("work", "https://192.0.2.9"), file); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := mergeKubeconfig("sagong", dir); err != nil || got != file {
			t.Fatalf("%s: %s %v", what, got, err)
		}
		c, err := clientcmd.LoadFromFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if c.CurrentContext != "sagong" || c.Clusters["sagong"] == nil || c.Clusters["sagong"].Server != "https://127.0.0.1:6443" ||
			c.AuthInfos["sagong"] == nil || c.AuthInfos["sagong"].Token != "sagong" || mine != (c.Clusters["work"] != nil) {
			t.Errorf("%s: merged into %+v", what, c)
		}
		if err := unmergeKubeconfig("sagong"); err != nil {
			t.Fatal(err)
		}
		c, err = clientcmd.LoadFromFile(file)
		switch {
		case mine && (err != nil || len(c.Clusters) != 1 || len(c.AuthInfos) != 1 || len(c.Contexts) != 1):
			t.Errorf("%s: %+v %v is left", what, c, err)
		case !mine && !os.IsNotExist(err):
			t.Errorf("%s: %+v %v is left", what, c, err)
		}
	}
}
