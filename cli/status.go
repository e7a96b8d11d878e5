package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"sagong/compose"
	"sagong/config"
	"sagong/lib/process"
)

// clusterStatus is what status prints, and its JSON form.
type clusterStatus struct {
	Name    string         `json:"name"`
	Running bool           `json:"running"`
	PID     int            `json:"pid,omitempty"`
	API     string         `json:"api,omitempty"`
	DataDir string         `json:"dataDir"`
	Memory  int64          `json:"memoryBytes,omitempty"`
	Nodes   []nodeStatus   `json:"nodes,omitempty"`
	Pods    map[string]int `json:"pods,omitempty"`
	// Starting are the kinds that the server has not read all of since its start.
	Starting []string `json:"starting,omitempty"`
	Notices  []string `json:"notices,omitempty"`
}

type nodeStatus struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"`
	Address string `json:"address,omitempty"`
	Pods    int    `json:"pods"`
	MaxPods int64  `json:"maxPods"`
}

func statusCommand(s *session) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "status", Short: "Show what runs, and where", Args: cobra.NoArgs,
		Long:    "Show whether the cluster runs, its nodes and its pods. The exit status is 3 when it does not run.",
		Example: "  sagong status\n  sagong status --name two -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := gatherStatus(c.Context(), s.name)
			if err != nil {
				return err
			}
			switch output {
			case "json":
				e := json.NewEncoder(s.out)
				e.SetIndent("", "  ")
				if err := e.Encode(st); err != nil {
					return err
				}
			case "":
				printStatus(s, st)
			default:
				return fmt.Errorf("cannot print the status as %q: use -o json, or no -o", output)
			}
			if !st.Running {
				return exitCode(3)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "format: json")
	return c
}

func gatherStatus(ctx context.Context, name string) (clusterStatus, error) {
	dir := dataDirOf(name)
	st := clusterStatus{Name: name, DataDir: dir}
	cfg, err := savedSettings(name, dir)
	if err != nil {
		return st, err
	}
	id, running, err := process.Load(compose.PIDFile(cfg))
	if err != nil || !running {
		return st, err
	}
	st.Running, st.PID, st.Memory = true, id.PID, residentBytes(id.PID)
	restConfig, err := clientcmd.BuildConfigFromFlags("", kubeconfigPath(dir))
	if err != nil {
		return st, fmt.Errorf("cannot read the cluster's kubeconfig: %w", err)
	}
	restConfig.Timeout = 10 * time.Second
	st.API = restConfig.Host
	api, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return st, fmt.Errorf("cannot reach the cluster: %w", err)
	}
	nodes, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return st, fmt.Errorf("the server (process %d) runs, but does not answer: %w", id.PID, err)
	}
	pods, err := api.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return st, fmt.Errorf("cannot list the pods: %w", err)
	}
	st.Pods = map[string]int{}
	perNode := map[string]int{}
	for _, p := range pods.Items {
		st.Pods[string(p.Status.Phase)]++
		perNode[p.Spec.NodeName]++
	}
	for _, n := range nodes.Items {
		st.Nodes = append(st.Nodes, describeNode(&n, perNode[n.Name]))
	}
	metrics, err := api.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return st, fmt.Errorf("cannot read the server's metrics: %w", err)
	}
	st.Starting = incompleteViews(string(metrics))
	st.Notices, err = compose.Notices(ctx, cfg)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // a server without an agent
	}
	return st, err
}

// incompleteViews finds in a server's metrics the kinds that it is still reading.
func incompleteViews(metrics string) []string {
	var all []string
	for line := range strings.Lines(metrics) {
		labels, ok := strings.CutPrefix(line, compose.IncompleteViews+`{group="`)
		if !ok {
			continue
		}
		group, rest, _ := strings.Cut(labels, `",resource="`)
		name, _, _ := strings.Cut(rest, `"`)
		if group != "" {
			name += "." + group
		}
		all = append(all, name)
	}
	return all
}

func describeNode(n *corev1.Node, pods int) nodeStatus {
	ns := nodeStatus{Name: n.Name, Pods: pods, MaxPods: n.Status.Allocatable.Pods().Value()}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && ns.Address == "" {
			ns.Address = a.Address
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			ns.Ready, ns.Reason = c.Status == corev1.ConditionTrue, c.Message
		}
	}
	return ns
}

func printStatus(s *session, st clusterStatus) {
	if !st.Running {
		start := "sagong up"
		if st.Name != config.DefaultName {
			start += " --name " + st.Name
		}
		fmt.Fprintf(s.out, "Cluster %s does not run. Start it with '%s'.\n", st.Name, start)
		return
	}
	fmt.Fprintf(s.out, "Cluster %s runs (process %d, %d MB).\n  API   %s\n  data  %s\n\n", st.Name, st.PID, st.Memory>>20, st.API, st.DataDir)
	w := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATUS\tADDRESS\tPODS")
	for _, n := range st.Nodes {
		state := "Ready"
		if !n.Ready {
			state = "NotReady: " + n.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\n", n.Name, state, n.Address, n.Pods, n.MaxPods)
	}
	w.Flush()
	var phases []string
	for _, p := range []corev1.PodPhase{corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown} {
		if n := st.Pods[string(p)]; n > 0 {
			phases = append(phases, fmt.Sprintf("%d %s", n, p))
		}
	}
	if len(phases) > 0 {
		fmt.Fprintf(s.out, "\nPods: %s.\n", strings.Join(phases, ", "))
	}
	if len(st.Starting) > 0 {
		fmt.Fprintf(s.out, "Note: the server has started and serves; its controllers and scheduler still read %s, and act when they have read all.\n", strings.Join(st.Starting, ", "))
	}
	for _, n := range st.Notices {
		fmt.Fprintf(s.out, "Note: %s\n", n)
	}
}

// residentBytes reads a process's resident memory; 0 when it cannot.
func residentBytes(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(data), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
