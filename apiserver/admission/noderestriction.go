package admission

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"sagong/apiserver/authz"
	"sagong/apiserver/resource"
	"sagong/client"
)

// NodeRestriction holds a node agent to its own node: its Node object, its
// lease, and the pods bound to it.
type NodeRestriction struct {
	Client     client.Client
	Authorizer authorizer.UnconditionalAuthorizer
}

// Name implements Plugin.
func (NodeRestriction) Name() string { return "NodeRestriction" }

// Admit implements Mutator; it changes nothing, but must come first.
func (n NodeRestriction) Admit(ctx context.Context, a *resource.Attributes) error {
	if !authz.IsNode(a.User) {
		return nil
	}
	node := authz.NodeName(a.User)
	if node == "" {
		return forbidden(a, "could not determine node from user %q", a.User.GetName())
	}
	switch a.Definition.Group + "/" + a.Definition.Resource {
	case "/pods":
		return n.pod(ctx, a, node)
	case "/nodes":
		return n.node(a, node)
	case "/serviceaccounts":
		return n.token(ctx, a, node)
	case resourcev1.GroupName + "/resourceslices":
		return n.slice(a, node)
	case "/persistentvolumeclaims":
		return n.claimStatus(a, node)
	case "/persistentvolumes":
		return n.volume(a, node)
	case coordinationv1.GroupName + "/leases":
		if a.Namespace != corev1.NamespaceNodeLease {
			return forbidden(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
		}
		if name := nameOf(a); name != node {
			return forbidden(a, "can only access node lease with the same name as the requesting node")
		}
	case storagev1.GroupName + "/csinodes":
		if nameOf(a) != node {
			return forbidden(a, "can only access CSINode with the same name as the requesting node")
		}
	case certificatesv1.GroupName + "/certificatesigningrequests":
		return n.signing(a, node)
	case certificatesv1.GroupName + "/podcertificaterequests":
		return n.podCertificate(ctx, a, node)
	}
	return nil
}

func nameOf(a *resource.Attributes) string {
	if o, ok := a.Object.(interface{ GetName() string }); ok && a.Name == "" {
		return o.GetName()
	}
	return a.Name
}

func (n NodeRestriction) pod(ctx context.Context, a *resource.Attributes, node string) error {
	switch a.Subresource {
	case "":
		if a.Operation == resource.Create {
			pod := a.Object.(*corev1.Pod)
			if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
				return forbidden(a, "pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
			}
			if pod.Spec.NodeName != node {
				return forbidden(a, "node %q can only create pods with spec.nodeName set to itself", node)
			}
			if err := n.mirrorOwner(ctx, a, pod, node); err != nil {
				return err
			}
			// What a pod of its own uses a node may read: it must not choose.
			if used := authz.Referenced(pod); used != "" {
				return forbidden(a, "node %q can not create pods that reference %s", node, used)
			}
			return nil
		}
		if a.Operation == resource.Delete {
			return n.ownPod(ctx, a, "node %q can only delete pods with spec.nodeName set to itself", node)
		}
		return forbidden(a, "unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
	case "status":
		if a.Operation != resource.Update {
			return forbidden(a, "unexpected operation %q", a.Operation)
		}
		if err := n.ownPod(ctx, a, "node %q can only update pod status for pods with spec.nodeName set to itself", node); err != nil {
			return err
		}
		old, ok := a.Old.(*corev1.Pod)
		now, ok2 := a.Object.(*corev1.Pod)
		switch {
		case !ok || !ok2:
			return forbidden(a, "unexpected type %T", a.Object)
		case !maps.Equal(old.Labels, now.Labels):
			return forbidden(a, "node %q cannot update labels through pod status", node)
		case !resourceclaim.PodStatusEqual(old.Status.ResourceClaimStatuses, now.Status.ResourceClaimStatuses):
			return forbidden(a, "node %q cannot update resource claim statues", node)
		case !resourceclaim.PodExtendedStatusEqual(old.Status.ExtendedResourceClaimStatus, now.Status.ExtendedResourceClaimStatus):
			return forbidden(a, "node %q cannot update extended resource claim statues", node)
		}
		return nil
	case "eviction":
		if a.Operation != resource.Create {
			return forbidden(a, "unexpected operation %s", a.Operation)
		}
		return n.ownPod(ctx, a, "node %s can only evict pods with spec.nodeName set to itself", node)
	}
	return forbidden(a, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
}

// mirrorOwner holds a mirror pod to its one owner, the node.
func (n NodeRestriction) mirrorOwner(ctx context.Context, a *resource.Attributes, pod *corev1.Pod, node string) error {
	switch len(pod.OwnerReferences) {
	case 0:
		return forbidden(a, "node %q can only create pods with an owner reference set to itself", node)
	case 1:
	default:
		return forbidden(a, "node %q can only create pods with a single owner reference set to itself", node)
	}
	owner := pod.OwnerReferences[0]
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node:
		return forbidden(a, "node %q can only create pods with an owner reference set to itself", node)
	case owner.Controller == nil || !*owner.Controller:
		return forbidden(a, "node %q can only create pods with a controller owner reference set to itself", node)
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return forbidden(a, "node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	have, err := client.Get[*corev1.Node](ctx, n.Client, "", node)
	if err != nil {
		return err
	}
	if owner.UID != have.UID {
		return forbidden(a, "node %s UID mismatch: expected %s got %s", node, owner.UID, have.UID)
	}
	return nil
}

// slice holds a node to its own devices. At the rest the Node authorizer has
// looked, but not at each of those that a collection deletes.
func (n NodeRestriction) slice(a *resource.Attributes, node string) error {
	of, verb := runtime.Object(a.Object), "create"
	switch a.Operation {
	case resource.Create:
	case resource.Delete:
		of, verb = a.Old, "delete"
	default:
		return nil
	}
	s, ok := of.(*resourcev1.ResourceSlice)
	if !ok {
		return forbidden(a, "unexpected type %T", of)
	}
	if s.Spec.NodeName == nil || *s.Spec.NodeName != node {
		return forbidden(a, "can only %s ResourceSlice with the same NodeName as the requesting node", verb)
	}
	return nil
}

// signing has a node ask for certificates with its own name only.
func (n NodeRestriction) signing(a *resource.Attributes, node string) error {
	r, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if a.Operation != resource.Create || !ok ||
		r.Spec.SignerName != certificatesv1.KubeletServingSignerName && r.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	req, err := parseRequest(r.Spec.Request)
	if err != nil {
		return forbidden(a, "unable to parse csr: %w", err)
	}
	if want := authz.NodeUserPrefix + node; req.Subject.CommonName != want {
		return forbidden(a, "can only create a node CSR with CN=%s", want)
	}
	return nil
}

// podCertificate has a node ask for certificates of pods that run on it, as what
// they run. That a uid is another than expected may be because the node's view is
// old, or this one is: the node is to try again.
func (n NodeRestriction) podCertificate(ctx context.Context, a *resource.Attributes, node string) error {
	if a.Operation != resource.Create {
		return forbidden(a, "unexpected operation %s", a.Operation)
	}
	if a.Subresource != "" {
		return forbidden(a, "unexpected subresource %s", a.Subresource)
	}
	r, ok := a.Object.(*certificatesv1.PodCertificateRequest)
	if !ok {
		return forbidden(a, "unexpected type %T", a.Object)
	}
	s, pod := &r.Spec, a.Namespace+"/"+r.Spec.PodName
	if string(s.NodeName) != node {
		return forbidden(a, "PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", s.NodeName, node)
	}
	machine, err := client.Get[*corev1.Node](ctx, n.Client, "", node)
	if err != nil {
		return lookedUp(a, err, "while retrieving node %q named in the PodCertificateRequest", node)
	}
	if machine.UID != s.NodeUID {
		return fmt.Errorf("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", pod, s.NodeUID, machine.UID)
	}
	p, err := client.Get[*corev1.Pod](ctx, n.Client, a.Namespace, s.PodName)
	if err != nil {
		return lookedUp(a, err, "while retrieving pod %q named in the PodCertificateRequest", pod)
	}
	_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case p.UID != s.PodUID:
		return fmt.Errorf("PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", pod, s.PodUID, p.UID)
	case p.Spec.NodeName != node:
		return forbidden(a, "pod %q is not running on node %q named in the PodCertificateRequest", pod, node)
	case mirror:
		return forbidden(a, "pod %q is a mirror pod", pod)
	case p.Spec.ServiceAccountName != s.ServiceAccountName:
		return forbidden(a, "PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", pod, s.ServiceAccountName, p.Spec.ServiceAccountName)
	}
	account, err := client.Get[*corev1.ServiceAccount](ctx, n.Client, a.Namespace, s.ServiceAccountName)
	if err != nil {
		return fmt.Errorf("while retrieving service account %q named in the PodCertificateRequest: %w", a.Namespace+"/"+s.ServiceAccountName, err)
	}
	if account.UID != s.ServiceAccountUID {
		return fmt.Errorf("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", pod, s.ServiceAccountUID, account.UID)
	}
	return nil
}

// lookedUp is what is answered when something cannot be read: that it is not
// there, or that this is forbidden.
func lookedUp(a *resource.Attributes, err error, format string, args ...any) error {
	if apierrors.IsNotFound(err) {
		return err
	}
	return forbidden(a, format+": %w", append(args, err)...)
}

func parseRequest(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// ownPod refuses, with a text that takes the node, what is about another's pod.
func (n NodeRestriction) ownPod(ctx context.Context, a *resource.Attributes, text, node string) error {
	pod, ok := a.Old.(*corev1.Pod)
	if !ok {
		var err error
		if pod, err = client.Get[*corev1.Pod](ctx, n.Client, a.Namespace, a.Name); err != nil {
			return err
		}
	}
	if pod.Spec.NodeName != node {
		return forbidden(a, text, node)
	}
	return nil
}

func (n NodeRestriction) node(a *resource.Attributes, node string) error {
	if nameOf(a) != node {
		return forbidden(a, "node %q is not allowed to modify node %q", node, nameOf(a))
	}
	now, ok := a.Object.(*corev1.Node)
	if !ok {
		return nil
	}
	if a.Operation == resource.Create && now.Spec.ConfigSource != nil {
		return forbidden(a, "node %q is not allowed to create pods with a non-nil configSource", node)
	}
	var before map[string]string
	if old, ok := a.Old.(*corev1.Node); ok && old != nil {
		before = old.Labels
		if now.Spec.ConfigSource != nil && !equality.Semantic.DeepEqual(now.Spec.ConfigSource, old.Spec.ConfigSource) {
			return forbidden(a, "node %q is not allowed to update configSource to a new non-nil configSource", node)
		}
		if a.Subresource == "" && !equality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints) {
			return forbidden(a, "node %q is not allowed to modify taints", node)
		}
		// Owners could have the node collected, its restrictions with it, and let
		// it register anew as it likes.
		if !equality.Semantic.DeepEqual(old.OwnerReferences, now.OwnerReferences) {
			return forbidden(a, "node %q is not allowed to modify ownerReferences", node)
		}
	}
	var changed []string
	for k, v := range now.Labels {
		if had, ok := before[k]; (!ok || had != v) && !ownLabel(k) {
			changed = append(changed, k)
		}
	}
	for k := range before {
		if _, kept := now.Labels[k]; !kept && !ownLabel(k) {
			changed = append(changed, k)
		}
	}
	if len(changed) > 0 {
		slices.Sort(changed)
		if before == nil && a.Operation == resource.Create {
			return forbidden(a, "node %q is not allowed to set the following labels: %s", node, strings.Join(changed, ", "))
		}
		return forbidden(a, "is not allowed to modify labels: %s", strings.Join(changed, ", "))
	}
	return nil
}

// nodeLabels are Kubernetes' own labels that a node may set on itself:
// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
var nodeLabels = map[string]bool{
	corev1.LabelHostname: true, corev1.LabelTopologyZone: true, corev1.LabelTopologyRegion: true,
	corev1.LabelFailureDomainBetaZone: true, corev1.LabelFailureDomainBetaRegion: true,
	corev1.LabelInstanceType: true, corev1.LabelInstanceTypeStable: true,
	corev1.LabelOSStable: true, corev1.LabelArchStable: true, "beta.kubernetes.io/os": true, "beta.kubernetes.io/arch": true,
}

// ownLabel tells whether a node may set a label on itself: those without
// Kubernetes' prefixes, and the ones of Kubernetes meant for that.
func ownLabel(key string) bool {
	prefix, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	in := func(domain string) bool { return prefix == domain || strings.HasSuffix(prefix, "."+domain) }
	switch {
	case in("node-restriction.kubernetes.io"):
		return false
	case in("kubelet.kubernetes.io"), in("node.kubernetes.io"):
		return true
	case in("kubernetes.io"), in("k8s.io"):
		return nodeLabels[key]
	}
	return true
}

func (n NodeRestriction) token(ctx context.Context, a *resource.Attributes, node string) error {
	if a.Subresource != "token" || a.Operation != resource.Create {
		return nil
	}
	req, ok := a.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return forbidden(a, "unexpected type %T", a.Object)
	}
	ref := req.Spec.BoundObjectRef
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "" {
		return forbidden(a, "node requested token not bound to a pod")
	}
	if ref.UID == "" {
		return forbidden(a, "node requested token with a pod binding without a uid")
	}
	pod, err := client.Get[*corev1.Pod](ctx, n.Client, a.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if pod.UID != ref.UID {
		return forbidden(a, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	}
	if pod.Spec.NodeName != node {
		return forbidden(a, "node requested token bound to a pod scheduled on a different node")
	}
	return n.audience(ctx, a, req, pod)
}

// audience lets a node ask for the audiences that its pods name, and for those
// that somebody lets it have.
func (n NodeRestriction) audience(ctx context.Context, a *resource.Attributes, req *authenticationv1.TokenRequest, pod *corev1.Pod) error {
	wanted := ""
	switch len(req.Spec.Audiences) {
	case 0:
	case 1:
		wanted = req.Spec.Audiences[0]
	default:
		return forbidden(a, "node may only request 0 or 1 audiences")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == wanted {
				return nil
			}
		}
	}
	for _, v := range pod.Spec.Volumes {
		driver, err := n.driver(ctx, pod, v)
		if err != nil || driver == "" {
			continue // it has none to name
		}
		d, err := client.Get[*storagev1.CSIDriver](ctx, n.Client, "", driver)
		if err == nil && slices.ContainsFunc(d.Spec.TokenRequests, func(t storagev1.TokenRequest) bool { return t.Audience == wanted }) {
			return nil
		}
	}
	if n.Authorizer != nil {
		decision, _, err := n.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
			User: a.User, Verb: "request-serviceaccounts-token-audience", Namespace: a.Namespace, Resource: wanted, Name: a.Name, APIVersion: "v1", ResourceRequest: true,
		})
		if err == nil && decision == authorizer.DecisionAllow {
			return nil
		}
	}
	return forbidden(a, "audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", wanted, a.User.GetName())
}

// driver is that of a volume of a pod, through its claim if need be; "" for none.
func (n NodeRestriction) driver(ctx context.Context, pod *corev1.Pod, v corev1.Volume) (string, error) {
	claim := ""
	switch {
	case v.CSI != nil:
		return v.CSI.Driver, nil
	case v.PersistentVolumeClaim != nil:
		claim = v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		claim = pod.Name + "-" + v.Name
	default:
		return "", nil
	}
	c, err := client.Get[*corev1.PersistentVolumeClaim](ctx, n.Client, pod.Namespace, claim)
	if err != nil || c.Spec.VolumeName == "" {
		return "", err
	}
	pv, err := client.Get[*corev1.PersistentVolume](ctx, n.Client, "", c.Spec.VolumeName)
	if err != nil || pv.Spec.CSI == nil {
		return "", err
	}
	return pv.Spec.CSI.Driver, nil
}
