package kubelet

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
)

// leaseNamespace holds the leases of all nodes.
const leaseNamespace = "kube-node-lease"

// keepLease renews the node's lease four times in its life: the sign of life
// that the control plane goes by.
func (a *Agent) keepLease(ctx context.Context) {
	var held *coordinationv1.Lease
	every := a.cfg.LeaseDuration / 4
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		next := every
		lease, err := a.renew(ctx, held)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			a.log.Warn("cannot renew the node's lease, trying again", "err", err)
			held, next = nil, min(every, time.Second)
		} else {
			held = lease
		}
		wait.Reset(next)
	}
}

// renew writes the lease. held is what was written last, nil when unknown.
func (a *Agent) renew(ctx context.Context, held *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	now := metav1.NewMicroTime(time.Now())
	if held == nil {
		l, err := client.Get[*coordinationv1.Lease](ctx, a.dep.Client, leaseNamespace, a.cfg.NodeName)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err != nil {
			seconds := int32(a.cfg.LeaseDuration / time.Second)
			fresh := &coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: a.cfg.NodeName},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &a.cfg.NodeName, LeaseDurationSeconds: &seconds, RenewTime: &now},
			}
			if node, err := client.Get[*corev1.Node](ctx, a.dep.Client, "", a.cfg.NodeName); err == nil {
				fresh.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
			}
			return client.Create(ctx, a.dep.Client, fresh)
		}
		held = l
	}
	l := held.DeepCopy()
	seconds := int32(a.cfg.LeaseDuration / time.Second)
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &a.cfg.NodeName, &seconds, &now
	return client.Update(ctx, a.dep.Client, l)
}
