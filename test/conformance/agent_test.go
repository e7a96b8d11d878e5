package conformance

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"time"

	"sagong/client"
	"sagong/object"
	"sagong/reconcile"
)

// agent stands for the agents of all nodes: it runs pods by what their image
// says and renews the nodes' leases. Image "exit:3" ends with that code;
// "flaky" fails once where it runs and then succeeds; "slow" is never ready;
// every other one runs and is ready at once.
type agent struct {
	pods  *reconcile.View[*corev1.Pod]
	nodes *reconcile.View[*corev1.Node]
	mu    sync.Mutex
	ips   int
}

func newAgent(h *reconcile.Hub) *agent {
	return &agent{pods: reconcile.ViewOf[*corev1.Pod](h), nodes: reconcile.ViewOf[*corev1.Node](h)}
}

func (a *agent) Name() string { return "agent" }
func (a *agent) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(a.pods), reconcile.On(a.nodes, func(old, new *corev1.Node, enqueue func(object.Key)) {
		if new != nil && old == nil {
			enqueue(object.Key{Name: new.Name})
		}
	})}
}
func (a *agent) Outputs() []reconcile.Output { return nil }

func (a *agent) Reconcile(ctx context.Context, w client.Client, k object.Key) (reconcile.Result, error) {
	if k.Namespace == "" {
		return reconcile.Result{After: 10 * time.Second}, a.renew(ctx, w, k.Name)
	}
	p, ok := a.pods.Get(k.Namespace, k.Name)
	switch {
	case !ok || p.Spec.NodeName == "":
		return reconcile.Result{}, nil
	case p.DeletionTimestamp != nil:
		err := client.Delete[*corev1.Pod](ctx, w, k.Namespace, k.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			err = nil
		}
		return reconcile.Result{}, err
	case p.Status.Phase != "" && p.Status.Phase != corev1.PodPending:
		return reconcile.Result{}, nil
	}
	next := p.DeepCopy()
	a.run(next)
	_, err := client.UpdateStatus(ctx, w, next)
	return reconcile.Result{}, err
}

func (a *agent) renew(ctx context.Context, w client.Client, node string) error {
	now := metav1.NowMicro()
	lease, err := client.Get[*coordinationv1.Lease](ctx, w, "kube-node-lease", node)
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, w, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: node}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, RenewTime: &now},
		})
		return err
	}
	if err != nil {
		return err
	}
	next := lease.DeepCopy()
	next.Spec.RenewTime = &now
	_, err = client.Update(ctx, w, next)
	return err
}

// run fills in the status of a pod that has come to its node.
func (a *agent) run(p *corev1.Pod) {
	a.mu.Lock()
	a.ips++
	ip := fmt.Sprintf("10.244.%d.%d", a.ips/250, a.ips%250+1)
	a.mu.Unlock()
	image, now := p.Spec.Containers[0].Image, metav1.Now()
	s := &p.Status
	s.Phase, s.StartTime, s.PodIP, s.PodIPs = corev1.PodRunning, &now, ip, []corev1.PodIP{{IP: ip}}
	c := corev1.ContainerStatus{Name: p.Spec.Containers[0].Name, Image: image, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}
	ready := corev1.ConditionTrue
	if code, ends := strings.CutPrefix(image, "exit:"); ends || image == "flaky" {
		// An index may say its own: "exit:0,1,0".
		codes := strings.Split(code, ",")
		n, _ := strconv.Atoi(p.Annotations["batch.kubernetes.io/job-completion-index"])
		exit, _ := strconv.Atoi(codes[min(n, len(codes)-1)])
		if image == "flaky" {
			exit, c.RestartCount = 0, 1
		}
		ready, s.Phase = corev1.ConditionFalse, corev1.PodSucceeded
		if exit != 0 {
			s.Phase = corev1.PodFailed
		}
		c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(exit), FinishedAt: now}}
	} else if image == "slow" {
		ready = corev1.ConditionFalse
	}
	c.Ready = ready == corev1.ConditionTrue
	s.ContainerStatuses = []corev1.ContainerStatus{c}
	for _, t := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: t, Status: ready, LastTransitionTime: now})
	}
}
