package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/uuid"
	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver/admission/match"
	"sagong/apiserver/webhookclient"
)

// objects are those of a write in one version, encoded.
type objects struct {
	is                   runtime.Object // nil for none
	object, old, options []byte
}

func encode(r *match.Request, t match.Target) (objects, error) {
	var out objects
	obj, err := r.ObjectIn(t.Kind)
	if err != nil {
		return out, err
	}
	old, err := r.OldIn(t.Kind)
	if err != nil {
		return out, err
	}
	out.is = obj
	if out.object, err = match.JSON(obj); err != nil {
		return out, err
	}
	if out.old, err = match.JSON(old); err != nil {
		return out, err
	}
	out.options, err = match.JSON(r.OptionsOf())
	return out, err
}

// question is what a webhook is asked, in the first of the versions of
// AdmissionReview it names that is known.
func question(h *hook, r *match.Request, t match.Target, o objects) (version string, uid types.UID, body []byte, err error) {
	uid = types.UID(uuid.NewString())
	dry := r.DryRun
	kind, resource := metav1.GroupVersionKind(t.Kind), metav1.GroupVersionResource(t.Resource)
	requestKind, requestResource := metav1.GroupVersionKind(r.Kind), metav1.GroupVersionResource(r.Resource)
	for _, v := range h.AdmissionReviewVersions {
		switch v {
		case "v1":
			q := &admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{
				UID: uid, Kind: kind, Resource: resource, SubResource: r.Subresource,
				RequestKind: &requestKind, RequestResource: &requestResource, RequestSubResource: r.Subresource,
				Name: r.Name, Namespace: r.Namespace, Operation: admissionv1.Operation(r.Operation), UserInfo: userInfo(r.User),
				Object: runtime.RawExtension{Raw: o.object}, OldObject: runtime.RawExtension{Raw: o.old}, DryRun: &dry,
				Options: runtime.RawExtension{Raw: o.options},
			}}
			q.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
			body, err = json.Marshal(q)
			return v, uid, body, err
		case "v1beta1":
			q := &admissionv1beta1.AdmissionReview{Request: &admissionv1beta1.AdmissionRequest{
				UID: uid, Kind: kind, Resource: resource, SubResource: r.Subresource,
				RequestKind: &requestKind, RequestResource: &requestResource, RequestSubResource: r.Subresource,
				Name: r.Name, Namespace: r.Namespace, Operation: admissionv1beta1.Operation(r.Operation), UserInfo: userInfo(r.User),
				Object: runtime.RawExtension{Raw: o.object}, OldObject: runtime.RawExtension{Raw: o.old}, DryRun: &dry,
				Options: runtime.RawExtension{Raw: o.options},
			}}
			q.SetGroupVersionKind(admissionv1beta1.SchemeGroupVersion.WithKind("AdmissionReview"))
			body, err = json.Marshal(q)
			return v, uid, body, err
		}
	}
	return "", "", nil, errors.New("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	if u == nil {
		return authenticationv1.UserInfo{}
	}
	out := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	if extra := u.GetExtra(); len(extra) > 0 {
		out.Extra = make(map[string]authenticationv1.ExtraValue, len(extra))
		for k, v := range extra {
			out.Extra[k] = v
		}
	}
	return out
}

// answer is what a webhook said, whatever the version.
type answer struct {
	allowed     bool
	result      *metav1.Status
	patch       []byte
	patchType   admissionv1.PatchType
	annotations map[string]string
	warnings    []string
}

// codec reads reviews as upstream's client does, whose errors it has.
var codec = sync.OnceValue(func() runtime.Codec {
	s := runtime.NewScheme()
	utilruntime.Must(admissionv1beta1.AddToScheme(s))
	utilruntime.Must(admissionv1.AddToScheme(s))
	return serializer.NewCodecFactory(s).LegacyCodec(admissionv1beta1.SchemeGroupVersion, admissionv1.SchemeGroupVersion)
})

// decodeReview reads the answer to a question in a version.
func decodeReview(version string, a webhookclient.Answer) (runtime.Object, error) {
	var into runtime.Object = &admissionv1.AdmissionReview{}
	if version == admissionv1beta1.SchemeGroupVersion.Version {
		into = &admissionv1beta1.AdmissionReview{}
	}
	if len(a.Body) == 0 {
		return nil, fmt.Errorf("0-length response with status code: %d and content type: %s", a.Code, a.ContentType)
	}
	_, _, err := codec().Decode(a.Body, nil, into)
	return into, err
}

// readAnswer checks the answer to a question. What it may be is upstream's: v1
// is checked strictly, v1beta1 is not.
func readAnswer(uid types.UID, mutating bool, review runtime.Object) (*answer, error) {
	if a, ok := review.(*admissionv1beta1.AdmissionReview); ok {
		if a.Response == nil {
			return nil, errors.New("webhook response was absent")
		}
		out := &answer{allowed: a.Response.Allowed, result: a.Response.Result, annotations: a.Response.AuditAnnotations, warnings: a.Response.Warnings}
		if mutating && len(a.Response.Patch) > 0 {
			out.patch, out.patchType = a.Response.Patch, admissionv1.PatchTypeJSONPatch
		}
		return out, nil
	}
	a := review.(*admissionv1.AdmissionReview)
	r := a.Response
	if r == nil {
		return nil, errors.New("webhook response was absent")
	}
	if r.UID != uid {
		return nil, fmt.Errorf("expected response.uid=%q, got %q", uid, r.UID)
	}
	if want := admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"); a.GroupVersionKind() != want {
		return nil, fmt.Errorf("expected webhook response of %v, got %v", want, a.GroupVersionKind())
	}
	out := &answer{allowed: r.Allowed, result: r.Result, annotations: r.AuditAnnotations, warnings: r.Warnings}
	switch {
	case !mutating && len(r.Patch) > 0:
		return nil, errors.New("validating webhook may not return response.patch")
	case !mutating && r.PatchType != nil:
		return nil, errors.New("validating webhook may not return response.patchType")
	case len(r.Patch) > 0 && r.PatchType == nil:
		return nil, errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return nil, errors.New("webhook returned response.patchType but not response.patch")
	case r.PatchType != nil && *r.PatchType == "":
		return nil, fmt.Errorf("webhook returned invalid response.patchType of %q", *r.PatchType)
	}
	if r.PatchType != nil {
		out.patch, out.patchType = r.Patch, *r.PatchType
	}
	return out, nil
}

// denied is the answer to the client whose write a webhook denied.
func denied(name string, s *metav1.Status) *rejection {
	if s == nil {
		s = &metav1.Status{}
	}
	if s.Code < http.StatusBadRequest {
		s.Code = http.StatusBadRequest
	}
	if s.Status == "" || s.Status == metav1.StatusSuccess {
		s.Status = metav1.StatusFailure
	}
	by := fmt.Sprintf("admission webhook %q denied the request", name)
	switch {
	case s.Message != "":
		s.Message = by + ": " + s.Message
	case s.Reason != "":
		s.Message = by + ": " + string(s.Reason)
	default:
		s.Message = by + " without explanation"
	}
	return &rejection{&apierrors.StatusError{ErrStatus: *s}}
}
