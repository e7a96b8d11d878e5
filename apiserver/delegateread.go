package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ReadDelegated gets a path of an API that another server answers for; ctx says
// on whose behalf. The error is of kind NotFound when nobody does.
func (s *Server) ReadDelegated(ctx context.Context, path string, query url.Values) ([]byte, error) {
	at := &url.URL{Scheme: "https", Host: "api", Path: path, RawQuery: query.Encode()}
	info := split(http.MethodGet, at)
	var h http.Handler
	if s.Delegate != nil {
		h = s.Delegate(info.GV)
	}
	if h == nil {
		return nil, apierrors.NewGenericServerResponse(http.StatusNotFound, http.MethodGet, schema.GroupResource{Group: info.GV.Group, Resource: info.Plural}, info.Name, "", 0, false)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", mediaJSON)
	w := &memoryResponse{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(w, r)
	if w.status == http.StatusOK {
		return w.body.Bytes(), nil
	}
	var st metav1.Status
	if err := json.Unmarshal(w.body.Bytes(), &st); err == nil && st.Kind == "Status" {
		return nil, &apierrors.StatusError{ErrStatus: st}
	}
	return nil, fmt.Errorf("the server answered %d", w.status)
}
