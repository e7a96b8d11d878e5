package check

import (
	"fmt"
	"net/url"
	"strings"

	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/field"
)

// WebhookURL checks where a webhook is asked for by its address.
func WebhookURL(path *field.Path, s string) (errs field.ErrorList) {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(s)
	if err != nil {
		return field.ErrorList{field.Required(path, "url must be a valid URL: "+err.Error()+form)}
	}
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(path, u.Scheme, "'https' is the only allowed URL scheme"+form))
	}
	if u.Host == "" {
		errs = append(errs, field.Invalid(path, u.Host, "host must be specified"+form))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(path, u.User.String(), "user information is not permitted in the URL"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(path, u.Fragment, "fragments are not permitted in the URL"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(path, u.RawQuery, "query parameters are not permitted in the URL"))
	}
	return errs
}

// WebhookService checks where a webhook is asked for behind a Service. Upstream
// hands name and namespace over in the wrong order, and so blames the other one.
func WebhookService(path *field.Path, namespace, name string, port int32, urlPath *string) (errs field.ErrorList) {
	errs = append(errs, Required(path.Child("name"), namespace, "")...)
	errs = append(errs, Required(path.Child("namespace"), name, "")...)
	if msgs := utilvalidation.IsValidPortNum(int(port)); msgs != nil {
		errs = append(errs, field.Invalid(path.Child("port"), port, "port is not valid: "+strings.Join(msgs, ", ")))
	}
	if urlPath == nil || *urlPath == "" || *urlPath == "/" {
		return errs
	}
	at, p := path.Child("path"), *urlPath
	if !strings.HasPrefix(p, "/") {
		errs = append(errs, field.Invalid(at, p, "must start with a '/'"))
	}
	for i, step := range strings.Split(strings.TrimSuffix(p[1:], "/"), "/") {
		if step == "" {
			errs = append(errs, field.Invalid(at, p, fmt.Sprintf("segment[%d] may not be empty", i)))
			continue
		}
		for _, msg := range utilvalidation.IsDNS1123Subdomain(step) {
			errs = append(errs, field.Invalid(at, p, fmt.Sprintf("segment[%d]: %v", i, msg)))
		}
	}
	return errs
}
