// Command sagong is a complete Kubernetes in one binary.
package main

import (
	"os"
	"runtime"
	// CronJobs name time zones; a static binary finds no database on machines
	// without one, and its tests would depend on theirs.
	_ "time/tzdata"

	_ "early" // before kubectl's packages start

	"sagong/cli"
	"sagong/hello"
)

// Goroutines that work in a pod's namespaces lock their thread and end with it;
// the main thread must never be one of them, as /proc/self shows what it sees.
func init() { runtime.LockOSThread() }

func main() {
	if code, mine := hello.Main(os.Args); mine {
		os.Exit(code)
	}
	os.Exit(cli.Main(os.Args[1:]))
}
