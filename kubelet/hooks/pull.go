package hooks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"sagong/runtime/image"
)

// The delay between pulls of an image that cannot be had.
const (
	pullBackoffInitial = 10 * time.Second
	pullBackoffMax     = 300 * time.Second
)

// pulls remembers failed pulls of each pod and bounds how many run.
type pulls struct {
	places chan struct{}

	mu     sync.Mutex
	failed map[types.UID]map[string]*pullFailure
}

type pullFailure struct {
	delay time.Duration
	at    time.Time
}

func newPulls(parallel int) *pulls {
	return &pulls{places: make(chan struct{}, parallel), failed: map[types.UID]map[string]*pullFailure{}}
}

func (u *pulls) forget(uid types.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.failed, uid)
}

func (u *pulls) succeeded(uid types.UID, ref string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.failed[uid], ref)
}

// fail notes a failure and returns the delay until the next try.
func (u *pulls) fail(uid types.UID, ref string) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed[uid] == nil {
		u.failed[uid] = map[string]*pullFailure{}
	}
	f := u.failed[uid][ref]
	now := time.Now()
	switch {
	case f == nil || now.Sub(f.at) > 2*pullBackoffMax:
		f = &pullFailure{delay: pullBackoffInitial}
		u.failed[uid][ref] = f
	default:
		f.delay = min(2*f.delay, pullBackoffMax)
	}
	f.at = now
	return f.delay
}

// imageStep guarantees that the image is on the node, unpacked, and pinned for
// the container; Run.Image describes it.
type imageStep struct{ s *Steps }

func (imageStep) Name() string { return "image" }

func (i imageStep) Do(ctx context.Context, r *Run) error {
	s, ref, uid := i.s, r.Member.Image, r.Pod.UID
	if _, err := image.ParseReference(ref); err != nil {
		msg := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: %v", ref, ref, rootCause(err))
		s.event(r, corev1.EventTypeWarning, "InspectFailed", "%s", msg)
		s.event(r, corev1.EventTypeWarning, "Failed", "Error: InvalidImageName")
		return &Failure{Reason: "InvalidImageName", Message: msg, RetryAfter: 10 * time.Second, Err: err}
	}
	policy := r.Member.ImagePullPolicy
	if policy == "" {
		policy = corev1.PullIfNotPresent
		if p, err := image.ParseReference(ref); err == nil && p.Tag == "latest" {
			policy = corev1.PullAlways
		}
	}
	if policy != corev1.PullAlways {
		img, err := s.Images.Use(ctx, ref, r.ID)
		switch {
		case err == nil:
			s.pulls.succeeded(uid, ref)
			s.event(r, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", ref)
			r.Image = img
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, image.ErrNotFound):
			s.event(r, corev1.EventTypeWarning, "InspectFailed", "Failed to inspect image %q: %v", ref, err)
			return &Failure{Reason: "ImageInspectError", Message: fmt.Sprintf("Failed to inspect image %q: %v", ref, err), RetryAfter: 10 * time.Second, Err: err}
		}
		if policy == corev1.PullNever {
			msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", ref)
			s.event(r, corev1.EventTypeWarning, "ErrImageNeverPull", "%s", msg)
			s.event(r, corev1.EventTypeWarning, "Failed", "Error: ErrImageNeverPull")
			return &Failure{Reason: "ErrImageNeverPull", Message: msg, RetryAfter: 10 * time.Second, Err: err}
		}
	}
	img, err := i.pull(ctx, r, ref)
	if err == nil {
		img, err = s.Images.Use(ctx, ref, r.ID)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.event(r, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", ref, err)
		s.event(r, corev1.EventTypeWarning, "Failed", "Error: ErrImagePull")
		return &Failure{Reason: "ErrImagePull", Message: fmt.Sprintf("failed to pull image %q: %v", ref, err), Image: true,
			BackOffMessage: fmt.Sprintf("Back-off pulling image %q: ErrImagePull: failed to pull image %q: %v", ref, ref, err),
			RetryAfter:     s.pulls.fail(uid, ref), Err: err}
	}
	s.pulls.succeeded(uid, ref)
	r.Image, r.Pulled = img, true
	return nil
}

func (i imageStep) pull(ctx context.Context, r *Run, ref string) (*image.Image, error) {
	s := i.s
	creds := s.credentials(ctx, r, ref)
	s.event(r, corev1.EventTypeNormal, "Pulling", "Pulling image %q", ref)
	asked := time.Now()
	select {
	case s.pulls.places <- struct{}{}:
		defer func() { <-s.pulls.places }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := time.Now()
	img, err := s.Images.Pull(ctx, ref, image.PullOptions{Credentials: creds})
	if err != nil {
		return nil, err
	}
	s.event(r, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		ref, time.Since(began).Truncate(time.Millisecond), time.Since(asked).Truncate(time.Millisecond), img.Size)
	return img, nil
}

func rootCause(err error) error {
	if errors.Is(err, image.ErrInvalidName) {
		return errors.New("invalid reference format")
	}
	return err
}

// credentials collects what the pod's imagePullSecrets hold for an image's
// registry, the most specific first.
func (s *Steps) credentials(ctx context.Context, r *Run, ref string) []image.Credential {
	var found []match
	for _, l := range r.Pod.Spec.ImagePullSecrets {
		sec, err := s.Objects.Secret(ctx, r.Pod.Namespace, l.Name)
		if err != nil {
			s.event(r, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", l.Name)
			continue
		}
		found = append(found, matching(sec, ref)...)
	}
	sort.SliceStable(found, func(i, j int) bool { return len(found[i].key) > len(found[j].key) })
	creds := make([]image.Credential, len(found))
	for i, m := range found {
		creds[i] = m.cred
	}
	return creds
}

type match struct {
	key  string
	cred image.Credential
}

// auth is an entry of a docker configuration file.
type auth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// matching returns the credentials of a Secret of type dockerconfigjson or
// dockercfg that are for the registry (and path) of an image.
func matching(sec *corev1.Secret, ref string) []match {
	auths := map[string]auth{}
	switch sec.Type {
	case corev1.SecretTypeDockerConfigJson:
		var f struct {
			Auths map[string]auth `json:"auths"`
		}
		if json.Unmarshal(sec.Data[corev1.DockerConfigJsonKey], &f) != nil {
			return nil
		}
		auths = f.Auths
	case corev1.SecretTypeDockercfg:
		if json.Unmarshal(sec.Data[corev1.DockerConfigKey], &auths) != nil {
			return nil
		}
	default:
		return nil
	}
	r, err := image.ParseReference(ref)
	if err != nil {
		return nil
	}
	var out []match
	for key, a := range auths {
		if !registryMatches(key, r.Domain, r.Path) {
			continue
		}
		c := image.Credential{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
		if a.Auth != "" && c.Username == "" {
			if raw, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
				c.Username, c.Password, _ = strings.Cut(string(raw), ":")
				c.Password = strings.TrimRight(c.Password, "\x00")
			}
		}
		out = append(out, match{key, c})
	}
	return out
}

// registryMatches says whether a key of a docker configuration is for a
// registry and path: [scheme://]host[:port][/path prefix], where each label of
// the host may be a pattern.
func registryMatches(key, domain, repository string) bool {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	host, prefix, _ := strings.Cut(key, "/")
	if domain == "docker.io" && (host == "index.docker.io" || host == "registry-1.docker.io") {
		host = "docker.io"
	}
	if prefix == "v1" || prefix == "v2" {
		prefix = ""
	}
	if prefix != "" && repository != prefix && !strings.HasPrefix(repository, prefix+"/") {
		return false
	}
	kh, kp, _ := strings.Cut(host, ":")
	dh, dp, _ := strings.Cut(domain, ":")
	if kp != dp {
		return false
	}
	kl, dl := strings.Split(kh, "."), strings.Split(dh, ".")
	if len(kl) != len(dl) {
		return false
	}
	for i := range kl {
		if ok, err := path.Match(kl[i], dl[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
