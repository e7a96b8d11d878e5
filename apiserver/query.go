package apiserver

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	listvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sagong/apiserver/resource"
	"sagong/object"
)

func badOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// validationDirective is fieldValidation with its default.
func validationDirective(v url.Values) string {
	if d := v.Get("fieldValidation"); d != "" {
		return d
	}
	return metav1.FieldValidationWarn
}

func (q *request) createOptions() (*metav1.CreateOptions, string, error) {
	v := q.r.URL.Query()
	o := &metav1.CreateOptions{DryRun: v["dryRun"], FieldManager: v.Get("fieldManager"), FieldValidation: v.Get("fieldValidation")}
	return o, validationDirective(v), badOptions("CreateOptions", validation.ValidateCreateOptions(o))
}

func (q *request) updateOptions() (*metav1.UpdateOptions, string, error) {
	v := q.r.URL.Query()
	o := &metav1.UpdateOptions{DryRun: v["dryRun"], FieldManager: v.Get("fieldManager"), FieldValidation: v.Get("fieldValidation")}
	return o, validationDirective(v), badOptions("UpdateOptions", validation.ValidateUpdateOptions(o))
}

// boolean reads an optional boolean as the API's conversion does.
func boolean(v url.Values, name string) *bool {
	if len(v[name]) == 0 {
		return nil
	}
	b := truth(v, name)
	return &b
}

func integer(v url.Values, name string) (*int64, error) {
	if len(v[name]) == 0 {
		return nil, nil
	}
	n, err := strconv.ParseInt(v[name][0], 10, 64)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return &n, nil
}

// listQuery are the options of list, watch and deletecollection.
type listQuery struct {
	resource.ListOptions
	timeout   *int64
	bookmarks bool
	initial   *bool // sendInitialEvents
}

func (q *request) listQuery(version *object.Version, watch bool) (listQuery, error) {
	v := q.r.URL.Query()
	var o listQuery
	var err error
	if o.Selector, err = version.ParseSelector(v.Get("labelSelector"), v.Get("fieldSelector")); err != nil {
		return o, apierrors.NewBadRequest(err.Error())
	}
	limit, err := integer(v, "limit")
	if err != nil {
		return o, err
	}
	if limit != nil && *limit > 0 {
		o.Limit = *limit
	}
	if o.timeout, err = integer(v, "timeoutSeconds"); err != nil {
		return o, err
	}
	o.Continue = v.Get("continue")
	o.bookmarks = truth(v, "allowWatchBookmarks")
	o.initial = boolean(v, "sendInitialEvents")
	rv := v.Get("resourceVersion")
	o.Match = metav1.ResourceVersionMatch(v.Get("resourceVersionMatch"))
	if watch && o.initial == nil && o.Match == "" && (rv == "" || rv == "0") {
		// Upstream's default: such a watch has always begun with what there is.
		yes := true
		o.initial, o.Match = &yes, metav1.ResourceVersionMatchNotOlderThan
	}
	if errs := listvalidation.ValidateListOptions(&internalversion.ListOptions{
		Watch: watch, AllowWatchBookmarks: o.bookmarks, ResourceVersion: rv, ResourceVersionMatch: o.Match,
		Limit: o.Limit, Continue: o.Continue, SendInitialEvents: o.initial,
	}, true); len(errs) > 0 {
		return o, badOptions("ListOptions", errs)
	}
	if o.Revision, err = resource.ParseRevision(rv); err != nil {
		return o, badRevision(rv, err, watch)
	}
	o.HasRevision = rv != ""
	return o, nil
}

// badRevision is upstream's answer to a resourceVersion that is no number: only
// lists call it a bad request.
func badRevision(rv string, err error, watch bool) error {
	bad := field.Invalid(field.NewPath("resourceVersion"), rv, errors.Unwrap(err).Error())
	if watch {
		return bad
	}
	return apierrors.NewBadRequest("invalid resource version: " + bad.Error())
}

// deleteOptions come in the body, or else in the query.
func (q *request) deleteOptions() (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	data, err := q.readBody()
	if err != nil {
		return nil, err
	}
	if len(data) > 0 {
		f, err := bodyFormat(q.r)
		if err != nil {
			return nil, err
		}
		if _, err := object.DecodeInto(o, data, f, false); err != nil {
			if _, unreadable := object.KindOf(data, f); unreadable != nil {
				err = unreadable
			}
			return nil, apierrors.NewBadRequest(err.Error())
		}
		gvk, err := object.KindOf(data, f)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if err := deletesBy(gvk); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		q.auditRequest(o, schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, data, f)
	} else {
		v := q.r.URL.Query()
		if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&v, o, nil); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	return o, badOptions("DeleteOptions", validation.ValidateDeleteOptions(o))
}

// deletesBy judges what kind the body of a delete says it is. The words are those
// of upstream's scheme for options, which knows few kinds.
func deletesBy(gvk schema.GroupVersionKind) error {
	if gvk.Kind == "" || gvk.Kind == "DeleteOptions" {
		return nil
	}
	if gvk.Version == "" {
		gvk.Group, gvk.Version = metav1.GroupName, "v1"
	}
	if gvk.GroupVersion() == metav1.Unversioned {
		switch gvk.Kind {
		case "Status", "APIVersions", "APIGroupList", "APIGroup", "APIResourceList":
			return fmt.Errorf("converting (v1.%s) to (v1.DeleteOptions): unknown conversion", gvk.Kind)
		}
	}
	return runtime.NewNotRegisteredErrForKind("pkg/runtime/scheme.go:111", gvk)
}
