// Package podspec holds the rules of pod specifications, which pods, pod
// templates and every workload kind share: defaults, validation, warnings,
// quality of service and the cells tables print of them.
package podspec
