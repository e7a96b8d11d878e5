package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"sagong/config"
)

// kubeconfigPath is the administrator's kubeconfig that a server keeps.
func kubeconfigPath(dataDir string) string { return filepath.Join(dataDir, "admin.kubeconfig") }

// dataDirOf finds a named cluster's data directory: where up last put it, or
// the default.
func dataDirOf(name string) string {
	if d := os.Getenv("SAGONG_DATA_DIR"); d != "" {
		return d
	}
	if d, err := os.Readlink(filepath.Join(registryDir, name)); err == nil {
		return d
	}
	return config.DefaultDataDir(name)
}

// contextName is the context in the user's kubeconfig.
func contextName(name string) string {
	if name == config.DefaultName {
		return config.DefaultName
	}
	return config.DefaultName + "-" + name
}

// mergeKubeconfig writes the cluster's context into the user's kubeconfig and
// makes it the current one.
func mergeKubeconfig(name, dataDir string) (file string, err error) {
	own, err := clientcmd.LoadFromFile(kubeconfigPath(dataDir))
	if err != nil {
		return "", fmt.Errorf("cannot read the cluster's kubeconfig: %w", err)
	}
	access := clientcmd.NewDefaultPathOptions()
	users, err := access.GetStartingConfig()
	if err != nil {
		return "", fmt.Errorf("cannot read your kubeconfig: %w", err)
	}
	key := contextName(name)
	ctx := own.Contexts[own.CurrentContext]
	// Where an entry was read from decides where it is written to: these belong
	// in the user's file now.
	cluster, user := own.Clusters[ctx.Cluster], own.AuthInfos[ctx.AuthInfo]
	cluster.LocationOfOrigin, user.LocationOfOrigin = "", ""
	users.Clusters[key], users.AuthInfos[key] = cluster, user
	users.Contexts[key] = &clientcmdapi.Context{Cluster: key, AuthInfo: key}
	users.CurrentContext = key
	if err := clientcmd.ModifyConfig(access, *users, true); err != nil {
		return "", fmt.Errorf("cannot write the context %s into your kubeconfig: %w", key, err)
	}
	return access.GetDefaultFilename(), nil
}

// unmergeKubeconfig takes the context out again.
func unmergeKubeconfig(name string) error {
	access := clientcmd.NewDefaultPathOptions()
	users, err := access.GetStartingConfig()
	if err != nil {
		return fmt.Errorf("cannot read your kubeconfig: %w", err)
	}
	key := contextName(name)
	if users.Contexts[key] == nil {
		return nil
	}
	delete(users.Contexts, key)
	delete(users.Clusters, key)
	delete(users.AuthInfos, key)
	if users.CurrentContext == key {
		users.CurrentContext = ""
	}
	if len(users.Contexts)+len(users.Clusters)+len(users.AuthInfos) == 0 {
		// The file was ours alone.
		return os.Remove(access.GetDefaultFilename())
	}
	return clientcmd.ModifyConfig(access, *users, true)
}
