package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"sagong/kinds/check"
	"sagong/kinds/field"
)

func validateProbe(p *corev1.Probe, grace *int64, path *field.Path) field.ErrorList {
	errs := validateHandler(handler{exec: p.Exec, http: p.HTTPGet, tcp: p.TCPSocket, grpc: p.GRPC}, grace, path)
	for _, f := range [...]struct {
		name string
		n    int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold},
	} {
		if f.n < 0 {
			errs = append(errs, check.Nonnegative(path.Child(f.name), f.n)...)
		}
	}
	if n := p.TerminationGracePeriodSeconds; n != nil && *n <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *n, "must be greater than 0"))
	}
	return errs
}

// handler is what probes and lifecycle hooks have in common.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

func lifecycle(h *corev1.LifecycleHandler) handler {
	return handler{exec: h.Exec, http: h.HTTPGet, tcp: h.TCPSocket, sleep: h.Sleep}
}

func validateHandler(h handler, grace *int64, path *field.Path) (errs field.ErrorList) {
	n := 0
	one := func(name string, check func(*field.Path) field.ErrorList) {
		if n > 0 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 handler type"))
			return
		}
		n++
		errs = append(errs, check(path.Child(name))...)
	}
	if h.exec != nil {
		one("exec", func(p *field.Path) field.ErrorList {
			if len(h.exec.Command) == 0 {
				return field.ErrorList{field.Required(p.Child("command"), "")}
			}
			return nil
		})
	}
	if h.http != nil {
		one("httpGet", func(p *field.Path) field.ErrorList { return validateHTTPGet(h.http, p) })
	}
	if h.tcp != nil {
		one("tcpSocket", func(p *field.Path) field.ErrorList { return check.PortOrName(p.Child("port"), h.tcp.Port) })
	}
	if h.grpc != nil {
		one("grpc", func(p *field.Path) field.ErrorList { return check.Port(p.Child("port"), h.grpc.Port) })
	}
	if h.sleep != nil {
		one("sleep", func(p *field.Path) field.ErrorList {
			if s := h.sleep.Seconds; grace != nil && (s < 0 || s > *grace) {
				return field.ErrorList{field.Invalid(p, s, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))}
			}
			return nil
		})
	}
	if n == 0 {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(a *corev1.HTTPGetAction, path *field.Path) field.ErrorList {
	errs := check.Required(path.Child("path"), a.Path, "")
	errs = append(errs, check.PortOrName(path.Child("port"), a.Port)...)
	errs = append(errs, check.OneOf(path.Child("scheme"), a.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
	for _, header := range a.HTTPHeaders {
		errs = append(errs, check.Rule(path.Child("httpHeaders"), header.Name, utilvalidation.IsHTTPHeaderName)...)
	}
	return errs
}
