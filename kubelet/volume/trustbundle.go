package volume

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// bundle writes the authorities of one ClusterTrustBundle, or of all those of a
// signer that a selector takes, into one file.
func (c projected) bundle(ctx context.Context, out Payload, p *corev1.Pod, s *corev1.ClusterTrustBundleProjection, mode uint32) error {
	path, err := cleanPath(s.Path)
	if err != nil {
		return err
	}
	if c.m.Bundles == nil {
		return fmt.Errorf("%w: projected clusterTrustBundle", ErrUnsupported)
	}
	all, err := c.m.Bundles.TrustBundles(ctx)
	if err != nil {
		return fmt.Errorf("cannot read ClusterTrustBundles: %w", err)
	}
	all, err = chosen(all, s)
	if err != nil && (s.Optional == nil || !*s.Optional) {
		return err
	}
	f := File{Data: authorities(all), Mode: mode, UID: onlyUser(p)}
	if fsGroup(p) != nil || f.UID != nil {
		f.Mode = 0o600
	}
	out[path] = f
	return nil
}

// chosen are the bundles that a source means; the error says that there are none.
func chosen(all []*certificatesv1.ClusterTrustBundle, s *corev1.ClusterTrustBundleProjection) ([]*certificatesv1.ClusterTrustBundle, error) {
	if s.Name != nil {
		for _, b := range all {
			if b.Name == *s.Name {
				return []*certificatesv1.ClusterTrustBundle{b}, nil
			}
		}
		return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", apierrors.NewNotFound(certificatesv1.Resource("clustertrustbundle"), *s.Name))
	}
	selector, err := metav1.LabelSelectorAsSelector(s.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("while parsing label selector: %w", err)
	}
	var some []*certificatesv1.ClusterTrustBundle
	for _, b := range all {
		if s.SignerName != nil && b.Spec.SignerName == *s.SignerName && selector.Matches(labels.Set(b.Labels)) {
			some = append(some, b)
		}
	}
	if len(some) == 0 {
		return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
	return some, nil
}

// authorities is the certificates of bundles, each once, without what stands
// between them, in an order that does not change while they do not.
func authorities(all []*certificatesv1.ClusterTrustBundle) []byte {
	var certs [][]byte
	for _, b := range all {
		for block, rest := pem.Decode([]byte(b.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			certs = append(certs, block.Bytes)
		}
	}
	slices.SortFunc(certs, bytes.Compare)
	var out bytes.Buffer
	for _, der := range slices.CompactFunc(certs, bytes.Equal) {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return out.Bytes()
}
