package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// fleet is a process of simulated nodes beside a cluster. What it costs is
// counted apart from the server.
type fleet struct {
	cmd  *exec.Cmd
	done chan error
}

// simulate starts nodes and waits until all are Ready.
func (c *cluster) simulate(ctx context.Context, nodes, podsANode int, args ...string) (*fleet, error) {
	cmd := exec.CommandContext(ctx, c.b.binary, append([]string{
		"simulate", "nodes", "--kubeconfig", c.data() + "/admin.kubeconfig", "--count", strconv.Itoa(nodes), "--pods", strconv.Itoa(podsANode),
		"--start-delay", "0s", "--stop-delay", "0s",
	}, args...)...)
	cmd.Env, cmd.Stderr = c.env, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot simulate nodes: %w", err)
	}
	f := &fleet{cmd: cmd, done: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Ready") {
				close(ready)
				break
			}
		}
		for lines.Scan() {
		}
		f.done <- cmd.Wait()
	}()
	select {
	case <-ready:
		return f, nil
	case err := <-f.done:
		return nil, fmt.Errorf("the simulated nodes ended: %w", err)
	case <-time.After(5 * time.Minute):
		return nil, errors.Join(errors.New("the simulated nodes are not Ready within 5 min"), f.kill())
	}
}

// kill ends the nodes without a farewell: the cluster goes as well.
func (f *fleet) kill() error {
	if err := f.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-f.done
	return nil
}

// cost is the processor time that the fleet has spent.
func (f *fleet) cost() (time.Duration, error) { return processorTime(f.cmd.Process.Pid) }

// ordinaryDeployment is one of small pods.
func ordinaryDeployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "web", Image: "registry.example.org/team/web:v1.2.3",
					Env:   []corev1.EnvVar{{Name: "A", Value: "one"}, {Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
					Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
					Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("32Mi")},
						Limits:   corev1.ResourceList{"memory": resource.MustParse("64Mi")},
					},
				}}},
			},
		},
	}
}

// deploy creates Deployments and waits until every pod is Ready, which their
// status says.
func (c *cluster) deploy(ctx context.Context, deployments, replicas int, limit time.Duration) (time.Duration, error) {
	w, err := c.api.AppsV1().Deployments(space).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	begin := time.Now()
	for i := range deployments {
		if _, err := c.api.AppsV1().Deployments(space).Create(ctx, ordinaryDeployment(fmt.Sprintf("web-%d", i), int32(replicas)), metav1.CreateOptions{}); err != nil {
			return 0, err
		}
	}
	err = c.untilReady(ctx, w, deployments*replicas, limit)
	return time.Since(begin), err
}

// untilReady takes events of Deployments until so many pods are Ready.
func (c *cluster) untilReady(ctx context.Context, w watch.Interface, want int, limit time.Duration) error {
	ready, sum, shown := map[string]int32{}, 0, time.Now()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		select {
		case e, ok := <-w.ResultChan():
			d, isDeployment := e.Object.(*appsv1.Deployment)
			if !ok || !isDeployment {
				return errors.New("the watch of Deployments ended")
			}
			sum += int(d.Status.ReadyReplicas - ready[d.Name])
			ready[d.Name] = d.Status.ReadyReplicas
			if sum >= want {
				return nil
			}
			if time.Since(shown) > time.Second {
				shown = time.Now()
				c.b.say("%d of %d pods are Ready", sum, want)
			}
		case <-timeout.C:
			return fmt.Errorf("%d of %d pods are Ready after %v", sum, want, limit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// resetPeak forgets the most memory that the server had so far.
func (c *cluster) resetPeak() error {
	pid, err := c.pid()
	if err != nil {
		return err
	}
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// memory is the server's resident memory in MB: now, and at most.
func (c *cluster) memory() (now, most float64, err error) {
	pid, err := c.pid()
	if err != nil {
		return 0, 0, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		switch {
		case name == "VmRSS" && err == nil:
			now = kb * 1024 / 1e6
		case name == "VmHWM" && err == nil:
			most = kb * 1024 / 1e6
		}
	}
	return now, most, nil
}
