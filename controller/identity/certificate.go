package identity

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/lib/pki"
	"sagong/object"
	"sagong/reconcile"
)

// certificateController approves the certificate requests of node agents and
// signs every approved request of the signers that Kubernetes itself defines:
// https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
type certificateController struct {
	requests *reconcile.View[*certificatesv1.CertificateSigningRequest]
	nodes    *reconcile.View[*corev1.Node]
	ca       *pki.Authority
	api      pki.Leaf
	log      *slog.Logger
	now      func() time.Time
}

// NewCertificates returns the controller that approves and signs with ca. No node
// gets a name or an address of api, the API's own certificate, without being asked for.
func NewCertificates(h *reconcile.Hub, ca *pki.Authority, api pki.Leaf, log *slog.Logger, now func() time.Time) reconcile.Controller {
	return &certificateController{
		requests: reconcile.ViewOf[*certificatesv1.CertificateSigningRequest](h), nodes: reconcile.ViewOf[*corev1.Node](h),
		ca: ca, api: api, log: log, now: now,
	}
}

func (*certificateController) Name() string { return "certificate" }

func (c *certificateController) Inputs() []reconcile.Input {
	return []reconcile.Input{reconcile.Self(c.requests), reconcile.Reads(c.nodes)}
}

func (*certificateController) Outputs() []reconcile.Output {
	kind := certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest").GroupKind()
	return []reconcile.Output{{Kind: kind, Field: "status"}}
}

// Requests are kept as long as upstream keeps them, then removed.
const (
	keepIssued  = time.Hour
	keepDenied  = time.Hour
	keepPending = 24 * time.Hour
)

// shortestLife is the least that is signed for, whatever is asked.
const shortestLife = 10 * time.Minute

func (c *certificateController) Reconcile(ctx context.Context, cl client.Client, key object.Key) (reconcile.Result, error) {
	r, ok := c.requests.Get("", key.Name)
	if !ok {
		return reconcile.Result{}, nil
	}
	if left := c.left(r); left <= 0 {
		err := client.Delete[*certificatesv1.CertificateSigningRequest](ctx, cl, "", r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
		return reconcile.Result{}, gone(err)
	}
	again := reconcile.Result{After: c.left(r)}
	switch {
	case condition(r, certificatesv1.CertificateDenied), condition(r, certificatesv1.CertificateFailed), len(r.Status.Certificate) > 0:
		return again, nil
	case condition(r, certificatesv1.CertificateApproved):
		return again, c.sign(ctx, cl, r)
	}
	why, err := c.approve(ctx, cl, r)
	if err != nil || why == "" {
		return again, err
	}
	out := r.DeepCopy()
	now := metav1.NewTime(c.now())
	out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: why,
		LastUpdateTime: now, LastTransitionTime: now,
	})
	_, err = cl.Update(ctx, c.requests.Definition(), out, "approval")
	return again, err
}

// gone takes "not found" for success: what should not be there is not.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// left is how long a request is still kept: an hour after it was issued, denied or
// failed, and no longer than its certificate holds.
func (c *certificateController) left(r *certificatesv1.CertificateSigningRequest) time.Duration {
	end := r.CreationTimestamp.Add(keepPending)
	since := func(t certificatesv1.RequestConditionType, keep time.Duration) {
		for _, x := range r.Status.Conditions {
			if x.Type == t && !x.LastUpdateTime.IsZero() {
				end = x.LastUpdateTime.Add(keep)
			}
		}
	}
	switch issued := len(r.Status.Certificate) > 0; {
	case issued:
		since(certificatesv1.CertificateApproved, keepIssued)
		if cert, err := pki.ParseCertificate(r.Status.Certificate); err == nil && cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	case condition(r, certificatesv1.CertificateDenied):
		since(certificatesv1.CertificateDenied, keepDenied)
	case condition(r, certificatesv1.CertificateFailed):
		since(certificatesv1.CertificateFailed, keepDenied)
	}
	return end.Sub(c.now())
}

func condition(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(x certificatesv1.CertificateSigningRequestCondition) bool { return x.Type == t })
}

// approve returns why a request may be approved without asking anybody; "" when
// somebody must be asked.
func (c *certificateController) approve(ctx context.Context, cl client.Client, r *certificatesv1.CertificateSigningRequest) (string, error) {
	req, err := parseRequest(r.Spec.Request)
	if err != nil {
		return "", nil // said when it is signed
	}
	switch r.Spec.SignerName {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		if nodeClient(r, req) != nil {
			return "", nil
		}
		if req.Subject.CommonName == r.Spec.Username {
			if ok, err := allowed(ctx, cl, r, "selfnodeclient"); ok || err != nil {
				return "Auto approving self kubelet client certificate after SubjectAccessReview.", err
			}
		}
		if ok, err := allowed(ctx, cl, r, "nodeclient"); !ok || err != nil {
			return "", err
		}
		return "Auto approving kubelet client certificate after SubjectAccessReview.", nil
	case certificatesv1.KubeletServingSignerName:
		// Nobody asks for another, not even a node's administrator.
		if nodeServing(r, req) != nil || req.Subject.CommonName != r.Spec.Username {
			return "", nil
		}
		name := strings.TrimPrefix(req.Subject.CommonName, "system:node:")
		node, ok := c.nodes.Get("", name)
		if !ok || !c.namesOnly(req, node) {
			return "", nil
		}
		return "Auto approving kubelet serving certificate: it names the addresses of the node that asks.", nil
	}
	return "", nil
}

// allowed asks whether the requester may have such a certificate without review.
func allowed(ctx context.Context, cl client.Client, r *certificatesv1.CertificateSigningRequest, sub string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range r.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: certificatesv1.GroupName, Resource: "certificatesigningrequests", Subresource: sub, Verb: "create",
		},
	}}
	out, err := client.Create(ctx, cl, review)
	if err != nil {
		return false, fmt.Errorf("cannot ask what %s may do: %w", r.Spec.Username, err)
	}
	return out.Status.Allowed, nil
}

func parseRequest(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return req, req.CheckSignature()
}

const nodeGroup = "system:nodes"

// nodeUsages holds a request to just what a node's key is for; encipherment may be
// left out, as keys but those of RSA cannot do it.
func nodeUsages(r *certificatesv1.CertificateSigningRequest, purpose certificatesv1.KeyUsage) error {
	want := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, purpose}
	slices.Sort(want)
	have := slices.Clone(r.Spec.Usages)
	slices.Sort(have)
	have = slices.Compact(have)
	if slices.Equal(have, want) || slices.Equal(have, slices.DeleteFunc(slices.Clone(want), func(u certificatesv1.KeyUsage) bool { return u == certificatesv1.UsageKeyEncipherment })) {
		return nil
	}
	return fmt.Errorf("usages did not match %v", want)
}

// clientUsages holds a request to what a client's key may be for.
func clientUsages(r *certificatesv1.CertificateSigningRequest) error {
	for _, u := range r.Spec.Usages {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth:
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !slices.Contains(r.Spec.Usages, certificatesv1.UsageClientAuth) {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}

var (
	errOrganization = errors.New("subject organization is not system:nodes")
	errCommonName   = errors.New("subject common name does not begin with system:node:")
	errNoNames      = errors.New("DNS or IP subjectAltName is required")
	errDNS          = errors.New("DNS subjectAltNames are not allowed")
	errEmail        = errors.New("Email subjectAltNames are not allowed") //nolint:staticcheck // upstream's text
	errIP           = errors.New("IP subjectAltNames are not allowed")
	errURI          = errors.New("URI subjectAltNames are not allowed")
)

// nodeClient holds a request to what a node agent's client certificate may say.
func nodeClient(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{nodeGroup}):
		return errOrganization
	case len(req.DNSNames) > 0:
		return errDNS
	case len(req.EmailAddresses) > 0:
		return errEmail
	case len(req.IPAddresses) > 0:
		return errIP
	case len(req.URIs) > 0:
		return errURI
	case !strings.HasPrefix(req.Subject.CommonName, "system:node:"):
		return errCommonName
	}
	return nodeUsages(r, certificatesv1.UsageClientAuth)
}

// nodeServing holds a request to what a node agent's serving certificate may say.
func nodeServing(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{nodeGroup}):
		return errOrganization
	case len(req.DNSNames)+len(req.IPAddresses) == 0:
		return errNoNames
	case len(req.EmailAddresses) > 0:
		return errEmail
	case len(req.URIs) > 0:
		return errURI
	}
	if err := nodeUsages(r, certificatesv1.UsageServerAuth); err != nil {
		return err
	}
	if !strings.HasPrefix(req.Subject.CommonName, "system:node:") {
		return errCommonName
	}
	return nil
}

// namesOnly reports whether a request names nothing but the node and its addresses.
// A node says itself what those are: none of them may be the API's.
func (c *certificateController) namesOnly(req *x509.CertificateRequest, node *corev1.Node) bool {
	own := map[string]bool{node.Name: true}
	for _, a := range node.Status.Addresses {
		own[a.Address] = true
	}
	for _, d := range req.DNSNames {
		if !own[d] || slices.ContainsFunc(c.api.DNSNames, func(n string) bool { return strings.EqualFold(n, d) }) ||
			strings.HasPrefix(strings.ToLower(d), "kubernetes.default") {
			return false
		}
	}
	for _, ip := range req.IPAddresses {
		if !own[ip.String()] || slices.ContainsFunc(c.api.Addresses, ip.Equal) {
			return false
		}
	}
	return true
}

func (c *certificateController) sign(ctx context.Context, cl client.Client, r *certificatesv1.CertificateSigningRequest) error {
	leaf := pki.Leaf{}
	req, err := parseRequest(r.Spec.Request)
	if err == nil {
		switch r.Spec.SignerName {
		case certificatesv1.KubeAPIServerClientKubeletSignerName:
			leaf.Client, err = true, nodeClient(r, req)
		case certificatesv1.KubeletServingSignerName:
			leaf.Server, err = true, nodeServing(r, req)
		case certificatesv1.KubeAPIServerClientSignerName:
			leaf.Client, err = true, clientUsages(r)
		default:
			return nil // another signer's
		}
	}
	out := r.DeepCopy()
	if err != nil {
		now := metav1.NewTime(c.now())
		out.Status.Conditions = append(out.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: err.Error(),
			LastUpdateTime: now,
		})
		_, err := cl.Update(ctx, c.requests.Definition(), out, "status")
		return err
	}
	leaf.CommonName, leaf.Subject = req.Subject.CommonName, req.Subject
	leaf.DNSNames, leaf.Addresses, leaf.Emails, leaf.URIs = req.DNSNames, req.IPAddresses, req.EmailAddresses, req.URIs
	var use x509.KeyUsage
	for _, u := range r.Spec.Usages {
		switch u {
		case certificatesv1.UsageDigitalSignature:
			use |= x509.KeyUsageDigitalSignature
		case certificatesv1.UsageKeyEncipherment:
			use |= x509.KeyUsageKeyEncipherment
		}
	}
	leaf.KeyUsage = &use
	if r.Spec.ExpirationSeconds != nil {
		leaf.Lifetime = max(time.Duration(*r.Spec.ExpirationSeconds)*time.Second, shortestLife)
	}
	certPEM, err := c.ca.Sign(leaf, req.PublicKey, c.now())
	if err != nil {
		return err
	}
	out.Status.Certificate = certPEM
	_, err = cl.Update(ctx, c.requests.Definition(), out, "status")
	if err == nil {
		c.log.Info("signed a certificate", "request", r.Name, "for", req.Subject.CommonName, "signer", r.Spec.SignerName)
	}
	return err
}
