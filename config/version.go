package config

import (
	"runtime/debug"
	"sync"
)

// KubernetesVersion is the version of the Kubernetes API that is served, as
// clients compare it with their own.
const KubernetesVersion = "v1.37.2"

// Version is Sagong's own.
const Version = "v0.1.0"

// GitCommit is the commit this binary was built from, with "-dirty" when the
// tree had changes; "unknown" for builds without version control.
var GitCommit = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, dirty := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return commit + dirty
})
