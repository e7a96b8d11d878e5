package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"sagong/apiserver/authn"
	"sagong/config"
	"sagong/lib/netlink"
	"sagong/lib/pki"
	"sagong/lib/process"
	"sagong/lib/progress"
	"sagong/network/pod"
)

// Further nodes on this machine run agents of their own, each in a network
// namespace that a veth ties to the host: a cluster of several nodes to try
// things on.

// nodesDir holds a directory for each.
func nodesDir(c config.Config) string { return filepath.Join(c.DataDir, "nodes") }

// extraNode is the Config of the nth node, counted from 2.
func extraNode(c config.Config, n int) config.Config {
	name := fmt.Sprintf("%s-%d", c.NodeName, n)
	e := config.Defaults()
	e.Name, e.NodeName = c.Name, name
	e.DataDir, e.RunDir = filepath.Join(nodesDir(c), name), filepath.Join(c.RunDir, "nodes", name)
	e.KubeletPort, e.MaxPods, e.LogLevel, e.Mirrors, e.RegistryCA = c.KubeletPort, c.MaxPods, c.LogLevel, c.Mirrors, c.RegistryCA
	e.Server = "https://" + AdvertisedAPI(c)
	e.NodeIP = nodeSubnet(c).Addr().Next().String()
	for range n - 1 {
		e.NodeIP = netip.MustParseAddr(e.NodeIP).Next().String()
	}
	return e
}

// nodeSubnet holds the addresses of the further nodes: one for each cluster on
// the machine, as the ranges of pods differ.
func nodeSubnet(c config.Config) netip.Prefix {
	second := byte(244)
	if p, err := netip.ParsePrefix(c.ClusterCIDR); err == nil && p.Addr().Is4() {
		second = p.Addr().As4()[1]
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 195, second, 0}), 24)
}

func namespaceOf(c, e config.Config) (pod.NodeNamespace, error) {
	host, err := netip.ParseAddr(c.NodeIP)
	if err != nil {
		return pod.NodeNamespace{}, fmt.Errorf("cannot use the node's address: %w", err)
	}
	cluster, err := netip.ParsePrefix(c.ClusterCIDR)
	if err != nil {
		return pod.NodeNamespace{}, fmt.Errorf("cannot use the cluster's range: %w", err)
	}
	addr, err := netip.ParseAddr(e.NodeIP)
	if err != nil {
		return pod.NodeNamespace{}, fmt.Errorf("cannot use the node's address: %w", err)
	}
	return pod.NodeNamespace{
		Cluster: c.Name, Path: filepath.Join(e.RunDir, "netns"), Subnet: nodeSubnet(c), Address: addr,
		HostAddress: host, ClusterCIDRs: []netip.Prefix{cluster}, StateDir: podConfig(c, slog.New(slog.DiscardHandler)).StateDir,
	}, nil
}

// ExtraNodes counts the further nodes that a cluster has had on this machine.
func ExtraNodes(c config.Config) int {
	entries, _ := os.ReadDir(nodesDir(c))
	return len(entries)
}

// ConnectExtraNodes makes the namespaces of the further nodes that a cluster has
// had, before its server starts: so the server finds them on its link, and not
// somewhere that only a tunnel leads to.
func ConnectExtraNodes(ctx context.Context, c config.Config, nodes int) error {
	for n := 2; n <= nodes; n++ {
		if _, err := connectExtraNode(ctx, c, extraNode(c, n)); err != nil {
			return err
		}
	}
	return nil
}

// connectExtraNode makes a node's directories and namespace, if they are not there.
func connectExtraNode(ctx context.Context, c, e config.Config) (pod.NodeNamespace, error) {
	ns, err := namespaceOf(c, e)
	if err != nil {
		return ns, err
	}
	for _, dir := range []string{e.DataDir, e.RunDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return ns, fmt.Errorf("cannot make node %s: %w", e.NodeName, err)
		}
	}
	return ns, pod.CreateNodeNamespace(ctx, ns)
}

// StartExtraNode starts the nth node of a running cluster in the background,
// unless it runs already, and waits until it is Ready.
func StartExtraNode(ctx context.Context, c config.Config, n int) (name string, err error) {
	e := extraNode(c, n)
	if _, running, err := process.Load(PIDFile(e)); err != nil || running {
		return e.NodeName, err
	}
	ns, err := connectExtraNode(ctx, c, e)
	if err != nil {
		return "", err
	}
	if e.Token, e.CAHash, err = joinToken(ctx, c, e.NodeName); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this program: %w", err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer in.Close()
	logFile := filepath.Join(e.DataDir, "agent.log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		out.Close()
		return "", fmt.Errorf("cannot open the node's log: %w", err)
	}
	defer log.Close()
	// The token goes by the environment: the process list is for everybody.
	token := e.Token
	e.Token = ""
	cmd := exec.Command(self, append([]string{"agent"}, e.AgentArgs()...)...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.Env = append(withoutSettings(os.Environ()), "SAGONG_TOKEN="+token, ProgressVariable+"=3")
	cmd.ExtraFiles = []*os.File{out}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = netlink.InNamespace(ns.Path, cmd.Start)
	out.Close()
	if err != nil {
		return "", fmt.Errorf("cannot start node %s: %w", e.NodeName, err)
	}
	if err := in.SetReadDeadline(time.Now().Add(nodeWait)); err != nil {
		return "", fmt.Errorf("cannot wait for node %s: %w", e.NodeName, err)
	}
	var failed string
	err = progress.Follow(in, func(s progress.Step) { failed = s.Failed })
	if failed != "" {
		err = errors.New(failed)
	}
	if err != nil {
		return "", fmt.Errorf("node %s does not become Ready: %w; its log is %s", e.NodeName, err, logFile)
	}
	return e.NodeName, cmd.Process.Release()
}

// nodeWait is how long a further node may take to become Ready.
const nodeWait = time.Minute

// ProgressVariable names the descriptor on which a process in the background
// tells of its steps.
const ProgressVariable = "SAGONG_PROGRESS_FD"

// withoutSettings drops the variables that configure the server: the node's own
// flags say all there is.
func withoutSettings(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "SAGONG_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// joinToken makes a token that lives as long as a join takes.
func joinToken(ctx context.Context, c config.Config, node string) (token, pin string, err error) {
	rc, err := clientcmd.BuildConfigFromFlags("", KubeconfigFile(c))
	if err != nil {
		return "", "", fmt.Errorf("cannot read the cluster's kubeconfig: %w", err)
	}
	api, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return "", "", fmt.Errorf("cannot reach the cluster: %w", err)
	}
	token, secret := authn.NewBootstrapToken("joins node "+node, time.Hour, time.Now())
	if _, err := api.CoreV1().Secrets(secret.Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return "", "", fmt.Errorf("cannot store a join token: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(PKIDir(c), "ca.crt"))
	if err != nil {
		return "", "", fmt.Errorf("cannot read the cluster's authority: %w", err)
	}
	cert, err := pki.ParseCertificate(ca)
	if err != nil {
		return "", "", fmt.Errorf("cannot read the cluster's authority: %w", err)
	}
	return token, pki.PublicKeyHash(cert), nil
}

// stopExtraNodes ends every further node of the cluster on this machine.
func stopExtraNodes(ctx context.Context, c config.Config, stop func(config.Config) error) error {
	entries, _ := os.ReadDir(nodesDir(c))
	var errs []error
	for i := range entries {
		e := extraNode(c, i+2)
		if id, running, err := process.Load(PIDFile(e)); err != nil {
			errs = append(errs, err)
		} else if running {
			errs = append(errs, id.Stop(ctx, syscall.SIGTERM, config.ShutdownTime))
		}
		errs = append(errs, stop(e))
		ns, err := namespaceOf(c, e)
		if err == nil {
			err = pod.DeleteNodeNamespace(ctx, ns)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
