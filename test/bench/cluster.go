package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is one that a row measures, under a name, in directories and at
// addresses of its own.
type cluster struct {
	b    *bench
	name string
	env  []string
	args []string
	dir  string

	config *rest.Config
	api    *kubernetes.Clientset
}

// with runs f on a fresh cluster and takes it down, whatever happens.
func (b *bench) with(ctx context.Context, f func(*cluster) error, args ...string) (err error) {
	c, err := b.plan(args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.down(ctx)) }()
	if err := c.up(ctx); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	return f(c)
}

// plan chooses names and addresses; nothing is started.
func (b *bench) plan(args []string) (*cluster, error) {
	name := fmt.Sprintf("bench%d", os.Getpid())
	dir, err := os.MkdirTemp(b.root, "cluster-")
	if err != nil {
		return nil, err
	}
	ports := make([]string, 2)
	for i := range ports {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			return nil, fmt.Errorf("cannot find a free port: %w", err)
		}
		defer l.Close()
		ports[i] = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	}
	c := &cluster{b: b, name: name, dir: dir}
	c.env = append(os.Environ(), "SAGONG_NAME="+name, "HOME="+filepath.Join(dir, "home"), "KUBECTL_KUBERC=false")
	c.args = append([]string{
		"--data-dir", c.data(), "--run-dir", "/run/sagong-" + name, "--no-kubeconfig",
		"--listen", ports[0], "--kubelet-port", ports[1], "--cluster-cidr", "10.210.0.0/16", "--service-cidr", "10.211.0.0/16",
	}, args...)
	return c, nil
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) sagong(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.b.binary, args...)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("sagong %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (c *cluster) up(ctx context.Context) error {
	return c.sagong(ctx, append([]string{"up"}, c.args...)...)
}

// down also ends what an interrupted up has left.
func (c *cluster) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := c.sagong(ctx, "down", "--purge", "--data-dir", c.data()); err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}

func (c *cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.data(), "admin.kubeconfig"))
	if err != nil {
		return fmt.Errorf("cannot read the cluster's kubeconfig: %w", err)
	}
	config.QPS, config.Burst = -1, 0
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"
	c.config = config
	c.api, err = kubernetes.NewForConfig(config)
	return err
}

func (c *cluster) pid() (int, error) {
	data, err := os.ReadFile(filepath.Join("/run/sagong-"+c.name, "server.pid"))
	if err != nil {
		return 0, fmt.Errorf("cannot find the server: %w", err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	return strconv.Atoi(strings.TrimSpace(first))
}

// namespace makes one whose pods can be created at once.
func (c *cluster) namespace(ctx context.Context, name string) error {
	if _, err := c.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	for {
		_, err := c.api.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		if err == nil || !apierrors.IsNotFound(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// cost runs f and returns the processor time that the server spent meanwhile: on
// a busy machine it says more than the time that passed.
func (c *cluster) cost(f func() error) (time.Duration, error) {
	pid, err := c.pid()
	if err != nil {
		return 0, err
	}
	before, err := processorTime(pid)
	if err != nil {
		return 0, err
	}
	profiled := c.profiled()
	if err := errors.Join(f(), profiled()); err != nil {
		return 0, err
	}
	after, err := processorTime(pid)
	return after - before, err
}
