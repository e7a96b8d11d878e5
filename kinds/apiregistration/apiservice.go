// Package apiregistration defines the kind of the group apiregistration.k8s.io:
// which server answers for a group and version of the API.
package apiregistration

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sagong/kinds/check"
	"sagong/kinds/field"
	"sagong/kinds/fill"
	"sagong/object"
)

// APIService defines apiregistration.k8s.io/v1 APIService.
func APIService() *object.Definition {
	return object.Kind[*apiregistrationv1.APIService]{
		Group: apiregistrationv1.GroupName, Version: "v1", Kind: "APIService", Resource: "apiservices", Categories: []string{"api-extensions"},
		Status: true, RefuseUnconditionalUpdate: true,
		Resets:  map[string][]string{"status": {"metadata"}},
		New:     func() *apiregistrationv1.APIService { return &apiregistrationv1.APIService{} },
		NewList: func() runtime.Object { return &apiregistrationv1.APIServiceList{} },
		Columns: []object.TypedColumn[*apiregistrationv1.APIService]{
			object.NameColumn[*apiregistrationv1.APIService](),
			object.StringColumn("Service", "The reference to the service that hosts this API endpoint.", func(s *apiregistrationv1.APIService) string {
				if r := s.Spec.Service; r != nil {
					return r.Namespace + "/" + r.Name
				}
				return "Local"
			}),
			object.StringColumn("Available", "Whether this service is available.", available),
			object.AgeColumn[*apiregistrationv1.APIService](),
		},
		Default: func(s *apiregistrationv1.APIService) {
			if s.Spec.Service != nil {
				fill.Ptr(&s.Spec.Service.Port, 443)
			}
		},
		PrepareCreate: func(_ context.Context, s *apiregistrationv1.APIService) {
			s.Status = apiregistrationv1.APIServiceStatus{}
			if s.Spec.Service == nil {
				s.Status.Conditions = []apiregistrationv1.APIServiceCondition{Local()}
			}
		},
		NameRule:       path.ValidatePathSegmentName,
		Validate:       validate,
		ValidateUpdate: func(s, _ *apiregistrationv1.APIService) field.ErrorList { return validate(s) },
		PrepareStatusUpdate: func(_ context.Context, s, old *apiregistrationv1.APIService) {
			s.Labels, s.Annotations, s.Finalizers, s.OwnerReferences = old.Labels, old.Annotations, old.Finalizers, old.OwnerReferences
		},
		ValidateStatusUpdate: func(s, _ *apiregistrationv1.APIService) field.ErrorList { return validateConditions(s) },
	}.Definition()
}

// Local is the condition of a service that this server answers for itself.
func Local() apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "Local", Message: "Local APIServices are always available",
	}
}

func available(s *apiregistrationv1.APIService) string {
	for _, c := range s.Status.Conditions {
		if c.Type != apiregistrationv1.Available {
			continue
		}
		if c.Status == apiregistrationv1.ConditionTrue {
			return string(c.Status)
		}
		return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
	}
	return string(apiregistrationv1.ConditionUnknown)
}

var spec = field.NewPath("spec")

func validate(s *apiregistrationv1.APIService) (errs field.ErrorList) {
	if want := s.Spec.Version + "." + s.Spec.Group; s.Name != "" && s.Name != want && path.ValidatePathSegmentName(s.Name, false) == nil {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), s.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want)))
	}
	if s.Spec.Group == "" && s.Spec.Version != "v1" {
		errs = append(errs, field.Required(spec.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if s.Spec.Group != "" {
		errs = append(errs, check.Rule(spec.Child("group"), s.Spec.Group, utilvalidation.IsDNS1123Subdomain)...)
	}
	errs = append(errs, check.Rule(spec.Child("version"), s.Spec.Version, utilvalidation.IsDNS1035Label)...)
	if n := s.Spec.GroupPriorityMinimum; n <= 0 || n > 20000 {
		errs = append(errs, field.Invalid(spec.Child("groupPriorityMinimum"), n, "must be positive and less than 20000"))
	}
	if n := s.Spec.VersionPriority; n <= 0 || n > 1000 {
		errs = append(errs, field.Invalid(spec.Child("versionPriority"), n, "must be positive and less than 1000"))
	}
	r := s.Spec.Service
	if r == nil {
		if len(s.Spec.CABundle) > 0 {
			errs = append(errs, field.Invalid(spec.Child("caBundle"), fmt.Sprintf("%d bytes", len(s.Spec.CABundle)), "local APIServices may not have a caBundle"))
		}
		if s.Spec.InsecureSkipTLSVerify {
			errs = append(errs, field.Invalid(spec.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
		}
		return errs
	}
	service := spec.Child("service")
	if r.Namespace == "" {
		errs = append(errs, field.Required(service.Child("namespace"), ""))
	}
	if r.Name == "" {
		errs = append(errs, field.Required(service.Child("name"), ""))
	}
	if r.Port != nil {
		if no := utilvalidation.IsValidPortNum(int(*r.Port)); no != nil {
			errs = append(errs, field.Invalid(service.Child("port"), *r.Port, "port is not valid: "+strings.Join(no, ", ")))
		}
	}
	if s.Spec.InsecureSkipTLSVerify && len(s.Spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(spec.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present"))
	}
	return errs
}

func validateConditions(s *apiregistrationv1.APIService) (errs field.ErrorList) {
	p := field.NewPath("status", "conditions")
	for i, c := range s.Status.Conditions {
		switch c.Status {
		case apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown:
		default:
			errs = append(errs, field.NotSupported(p.Index(i).Child("status"), c.Status, []apiregistrationv1.ConditionStatus{
				apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown,
			}))
		}
	}
	return errs
}
