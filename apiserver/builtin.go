package apiserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kindOfBuiltin names the kinds that are answers and bodies but not resources of
// the scheme.
func kindOfBuiltin(o runtime.Object) (schema.GroupVersionKind, bool) {
	switch o.(type) {
	case *metav1.Status:
		return schema.GroupVersionKind{Version: "v1", Kind: "Status"}, true
	case *metav1.DeleteOptions:
		return schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, true
	case *autoscalingv1.Scale:
		return autoscalingv1.SchemeGroupVersion.WithKind("Scale"), true
	case *policyv1.Eviction:
		return policyv1.SchemeGroupVersion.WithKind("Eviction"), true
	case *corev1.Binding:
		return corev1.SchemeGroupVersion.WithKind("Binding"), true
	case *authenticationv1.TokenRequest:
		return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), true
	case *authenticationv1.TokenReview:
		return authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), true
	case *authenticationv1.SelfSubjectReview:
		return authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), true
	case *authorizationv1.SubjectAccessReview:
		return authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"), true
	case *authorizationv1.SelfSubjectAccessReview:
		return authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), true
	case *authorizationv1.LocalSubjectAccessReview:
		return authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview"), true
	case *authorizationv1.SelfSubjectRulesReview:
		return authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"), true
	}
	return schema.GroupVersionKind{}, false
}

// serveBuiltin registers the paths every server has.
func (s *Server) serveBuiltin() {
	s.HandleService("/version", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := routed(r, []string{mediaJSON}, []string{mediaJSON})
		if r.Method != http.MethodGet {
			err = routerError(http.StatusMethodNotAllowed, "")
		}
		if err != nil {
			refuse(w, err)
			return
		}
		b, err := json.MarshalIndent(s.Version, "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", mediaJSON)
		w.Write(b)
	}))
	s.health.checks = []Check{{Name: "ping", For: AllHealth}}
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		s.Handle(path, http.HandlerFunc(s.serveHealth))
		s.Handle(path+"/", http.HandlerFunc(s.serveHealth))
	}
}

// refuse answers who asks a path of its own in a way that it does not have.
func refuse(w http.ResponseWriter, err error) {
	s := statusOf(err)
	b, err := json.MarshalIndent(&s, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(int(s.Code))
	w.Write(b)
}

// serveIndex lists the paths that are served: what kubectl get --raw / shows.
func (s *Server) serveIndex(w http.ResponseWriter) {
	// As upstream, profiles are not told of, and below /apis/ and the paths of
	// health anything may be asked for.
	paths := slices.DeleteFunc(s.Paths(), func(p string) bool {
		return strings.HasPrefix(p, "/debug/") || strings.HasSuffix(p, "/") && isHealth(p)
	})
	paths = append(paths, s.healthPaths()...)
	if d, ok := s.Discovery.(interface{ Paths() []string }); ok {
		paths = append(append(paths, "/apis/"), d.Paths()...)
	}
	slices.Sort(paths)
	b, err := json.MarshalIndent(metav1.RootPaths{Paths: paths}, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.Write(b)
}
