// Package simulate runs node agents without containers: thousands of nodes in
// one process, which behave over the public API as real ones do. They register,
// renew their leases, report their status, take pods, start them after a while,
// stop them within their grace, fail and come back when told to. The scheduler
// and every controller cannot tell the difference, so the same fleet serves
// tests, benchmarks and those who size a cluster.
//
// There is one watch of pods and one of nodes for the whole fleet, one heap of
// deadlines and a fixed number of writers: a node or a pod costs memory only.
package simulate

// Annotations by which pods and nodes say how they are to behave.
const (
	domain = "simulate.sagong.io/"

	// AnnotationStartDelay, RunFor and CrashAfter on a pod overrule the fleet's
	// distributions, ExitCode what its containers end with.
	AnnotationStartDelay = domain + "start-delay"
	AnnotationRunFor     = domain + "run-for"
	AnnotationCrashAfter = domain + "crash-after"
	AnnotationExitCode   = domain + "exit-code"

	// AnnotationState on a node takes it down while it is there: StateDown or
	// StateCutOff.
	AnnotationState = domain + "state"
	// StateDown is a machine without power: its containers are lost.
	StateDown = "down"
	// StateCutOff is a machine without network: its containers go on.
	StateCutOff = "cut-off"

	// ProviderScheme begins the provider ID of a simulated node: real agents lay
	// no way to its pods.
	ProviderScheme = "simulate://"

	// LabelFleet on a node names the fleet it belongs to.
	LabelFleet = domain + "fleet"
)
