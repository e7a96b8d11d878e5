// A module of its own for its name: packages start in the order of their import
// paths, and this one must start before k8s.io/kubectl/pkg/cmd.
module early

go 1.26.6

require k8s.io/kubectl v0.37.2
