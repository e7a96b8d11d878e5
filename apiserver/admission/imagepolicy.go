package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/cache"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"sagong/apiserver/resource"
)

// ImagePolicyWebhook asks a service whether the images of pods may run:
// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#imagepolicywebhook
// It is off unless asked for.
type ImagePolicyWebhook struct{ Service *ImagePolicy }

// Name implements Plugin.
func (ImagePolicyWebhook) Name() string { return "ImagePolicyWebhook" }

// ImagePolicy is the service, with the answers that still hold.
type ImagePolicy struct {
	client              *rest.RESTClient
	backoff             wait.Backoff
	allowTTL, denyTTL   time.Duration
	allowsWhenItIsAmiss bool
	known               *cache.LRUExpireCache
}

// Of the names of annotations.
const (
	imageReviewed = ".image-policy.k8s.io/" // those of pods that the service is shown
	imagePolicy   = "imagepolicywebhook.image-policy.k8s.io/"
	imageFailOpen = "alpha.image-policy.k8s.io/failed-open"
)

const (
	imagePolicyTime    = 30 * time.Second // of one call
	imagePolicyAnswers = 1024
)

// NewImagePolicy reads the plugin's configuration, as YAML or JSON, and the
// kubeconfig file that it names.
func NewImagePolicy(config []byte) (*ImagePolicy, error) {
	var c struct {
		ImagePolicy struct {
			KubeConfigFile string        `json:"kubeConfigFile"`
			AllowTTL       time.Duration `json:"allowTTL"`     // seconds
			DenyTTL        time.Duration `json:"denyTTL"`      // seconds
			RetryBackoff   time.Duration `json:"retryBackoff"` // milliseconds
			DefaultAllow   bool          `json:"defaultAllow"`
		} `json:"imagePolicy"`
	}
	if err := yaml.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	in := c.ImagePolicy
	p := &ImagePolicy{allowsWhenItIsAmiss: in.DefaultAllow, known: cache.NewLRUExpireCache(imagePolicyAnswers)}
	p.backoff = wait.Backoff{Factor: 1.5, Jitter: 0.2, Steps: 5}
	for _, x := range []struct {
		to                       *time.Duration
		is, unit                 time.Duration
		least, most, whenNotSaid time.Duration
	}{
		{&p.backoff.Duration, in.RetryBackoff, time.Millisecond, 1, 5 * time.Minute, 500 * time.Millisecond},
		{&p.allowTTL, in.AllowTTL, time.Second, time.Second, 30 * time.Minute, 5 * time.Minute},
		{&p.denyTTL, in.DenyTTL, time.Second, time.Second, 30 * time.Minute, 30 * time.Second},
	} {
		switch x.is {
		case -1: // none
		case 0:
			*x.to = x.whenNotSaid
		default:
			if *x.to = x.is * x.unit; *x.to <= x.least || *x.to > x.most {
				return nil, fmt.Errorf("valid value is between %v and %v, got %v", x.least, x.most, *x.to)
			}
		}
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: in.KubeConfigFile}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := imagepolicyv1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	codec := serializer.NewCodecFactory(scheme).LegacyCodec(imagepolicyv1alpha1.SchemeGroupVersion)
	cfg.Timeout, cfg.QPS, cfg.ContentType = imagePolicyTime, -1, runtime.ContentTypeJSON
	cfg.NegotiatedSerializer = serializer.NegotiatedSerializerWrapper(runtime.SerializerInfo{Serializer: codec})
	hc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	// Where the service is was said by the administrator, not by who answers.
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p.client, err = rest.UnversionedRESTClientForConfigAndClient(cfg, hc)
	return p, err
}

// Validate implements Validator.
func (w ImagePolicyWebhook) Validate(ctx context.Context, a *resource.Attributes) error {
	if a.Definition.GR() != podResource || a.Operation != resource.Create && a.Operation != resource.Update {
		return nil
	}
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || w.Service == nil {
		return nil
	}
	var images []string
	switch a.Subresource {
	case "":
		for _, c := range pod.Spec.Containers {
			images = append(images, c.Image)
		}
		for _, c := range pod.Spec.InitContainers {
			images = append(images, c.Image)
		}
	case "ephemeralcontainers":
		for _, c := range pod.Spec.EphemeralContainers {
			images = append(images, c.Image)
		}
	default:
		return nil
	}
	st, err := w.Service.review(ctx, pod, images, a.Namespace)
	if err != nil {
		if !w.Service.allowsWhenItIsAmiss {
			return apierrors.NewForbidden(a.Definition.GR(), a.Name, err)
		}
		a.Annotate(imagePolicy+"failed-open", "true")
		said := maps.Clone(pod.Annotations)
		if said == nil {
			said = map[string]string{}
		}
		said[imageFailOpen] = "true"
		pod.Annotations = said
		return nil
	}
	for k, v := range st.AuditAnnotations {
		if key := imagePolicy + k; strings.Count(key, "/") == 1 && len(validation.IsQualifiedName(key)) == 0 {
			a.Annotate(key, v)
		}
	}
	switch {
	case st.Allowed:
		return nil
	case st.Reason != "":
		return forbidden(a, "image policy webhook backend denied one or more images: %s", st.Reason)
	}
	return forbidden(a, "one or more images rejected by webhook backend")
}

// review asks the service about images, unless it is known what it says.
func (p *ImagePolicy) review(ctx context.Context, pod *corev1.Pod, images []string, namespace string) (imagepolicyv1alpha1.ImageReviewStatus, error) {
	r := &imagepolicyv1alpha1.ImageReview{Spec: imagepolicyv1alpha1.ImageReviewSpec{Annotations: map[string]string{}, Namespace: namespace}}
	for _, image := range images {
		r.Spec.Containers = append(r.Spec.Containers, imagepolicyv1alpha1.ImageReviewContainerSpec{Image: image})
	}
	for k, v := range pod.Annotations {
		if strings.Contains(k, imageReviewed) {
			r.Spec.Annotations[k] = v
		}
	}
	key, err := json.Marshal(r.Spec)
	if err != nil {
		return r.Status, err
	}
	if st, ok := p.known.Get(string(key)); ok {
		return st.(imagepolicyv1alpha1.ImageReviewStatus), nil
	}
	var result rest.Result
	var asked error
	err = wait.ExponentialBackoffWithContext(ctx, p.backoff, func(context.Context) (bool, error) {
		result = p.client.Post().Body(r).Do(ctx)
		asked = result.Error()
		return !askAgain(asked), nil
	})
	var code int
	result.StatusCode(&code)
	switch {
	case asked != nil:
		return r.Status, asked
	case err != nil:
		return r.Status, fmt.Errorf("webhook call failed: %w", err)
	case code < 200 || code >= 300:
		return r.Status, fmt.Errorf("Error contacting webhook: %d", code)
	}
	if err := result.Into(r); err != nil {
		return r.Status, err
	}
	ttl := p.denyTTL
	if r.Status.Allowed {
		ttl = p.allowTTL
	}
	p.known.Add(string(key), r.Status, ttl)
	return r.Status, nil
}

// askAgain says whether a call may succeed the next time, as upstream sees it.
func askAgain(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	_, later := apierrors.SuggestsClientDelay(err)
	return later || utilnet.IsConnectionReset(err) || utilnet.IsHTTP2ConnectionLost(err) ||
		apierrors.IsInternalError(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err)
}
