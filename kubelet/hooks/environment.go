package hooks

import (
	"context"
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sagong/kubelet/pod"
)

// environment is a container's variables in the order they were defined.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

// list is the form that execve takes.
func (e *environment) list() []string {
	out := make([]string, 0, len(e.names))
	for _, n := range e.names {
		out = append(out, n+"="+e.values[n])
	}
	return out
}

// environment computes the variables of a container: those of the sources in
// envFrom, then those in env, which may refer to earlier ones, and under them
// the addresses of Services. It also returns warnings about names left out.
func (s *Steps) environment(ctx context.Context, r *Run) (*environment, []string, error) {
	p, c := r.Pod.Pod, r.Member.Container
	e := &environment{values: map[string]string{}}
	var warnings []string
	links := p.Spec.EnableServiceLinks == nil || *p.Spec.EnableServiceLinks
	services := s.serviceEnvironment(p.Namespace, links)

	for _, f := range c.EnvFrom {
		data, kind, name, err := s.source(ctx, p, &f)
		if err != nil {
			return nil, nil, err
		}
		keys := make([]string, 0, len(data))
		for k := range data {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		var invalid []string
		for _, k := range keys {
			v := f.Prefix + k
			if v == "" || strings.ContainsAny(v, "=\x00") {
				invalid = append(invalid, k)
				continue
			}
			e.set(v, data[k])
		}
		if len(invalid) > 0 {
			warnings = append(warnings, fmt.Sprintf("Keys [%s] from the EnvFrom %s %s/%s were skipped since they are considered invalid environment variable names.", strings.Join(invalid, ", "), kind, p.Namespace, name))
		}
	}

	look := func(name string) (string, bool) {
		if v, ok := e.values[name]; ok {
			return v, true
		}
		v, ok := services[name]
		return v, ok
	}
	for i := range c.Env {
		v := &c.Env[i]
		if v.ValueFrom == nil {
			e.set(v.Name, Expand(v.Value, look))
			continue
		}
		value, ok, err := s.variable(ctx, r, v.ValueFrom)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	names := make([]string, 0, len(services))
	for n := range services {
		if _, taken := e.values[n]; !taken {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	for _, n := range names {
		e.set(n, services[n])
	}
	return e, warnings, nil
}

// source reads all keys of an envFrom source.
func (s *Steps) source(ctx context.Context, p *corev1.Pod, f *corev1.EnvFromSource) (data map[string]string, kind, name string, err error) {
	switch {
	case f.ConfigMapRef != nil:
		kind, name = "configMap", f.ConfigMapRef.Name
		cm, err := s.Objects.ConfigMap(ctx, p.Namespace, name)
		if err != nil {
			if apierrors.IsNotFound(err) && f.ConfigMapRef.Optional != nil && *f.ConfigMapRef.Optional {
				return nil, kind, name, nil
			}
			return nil, kind, name, missing(err, "configmap", name)
		}
		return cm.Data, kind, name, nil
	case f.SecretRef != nil:
		kind, name = "secret", f.SecretRef.Name
		sec, err := s.Objects.Secret(ctx, p.Namespace, name)
		if err != nil {
			if apierrors.IsNotFound(err) && f.SecretRef.Optional != nil && *f.SecretRef.Optional {
				return nil, kind, name, nil
			}
			return nil, kind, name, missing(err, "secret", name)
		}
		data = make(map[string]string, len(sec.Data))
		for k, v := range sec.Data {
			data[k] = string(v)
		}
	}
	return data, kind, name, nil
}

// missing words a look-up that failed as upstream does.
func missing(err error, kind, name string) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s %q not found", kind, name)
	}
	return fmt.Errorf("cannot read %s %q: %w", kind, name, err)
}

// variable resolves one valueFrom. ok is false for an optional one that does
// not exist.
func (s *Steps) variable(ctx context.Context, r *Run, f *corev1.EnvVarSource) (value string, ok bool, err error) {
	p := r.Pod.Pod
	switch {
	case f.FieldRef != nil:
		value, err = s.podField(r, f.FieldRef.FieldPath)
		return value, true, err
	case f.ResourceFieldRef != nil:
		var alloc corev1.ResourceList
		if s.cfg.Allocatable != nil {
			alloc = s.cfg.Allocatable()
		}
		value, err = pod.ResourceValue(p, r.Member.Name, f.ResourceFieldRef, alloc)
		return value, true, err
	case f.ConfigMapKeyRef != nil:
		ref := f.ConfigMapKeyRef
		optional := ref.Optional != nil && *ref.Optional
		cm, err := s.Objects.ConfigMap(ctx, p.Namespace, ref.Name)
		if err != nil {
			if optional && apierrors.IsNotFound(err) {
				return "", false, nil
			}
			return "", false, missing(err, "configmap", ref.Name)
		}
		value, ok = cm.Data[ref.Key]
		if !ok && !optional {
			return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, p.Namespace, ref.Name)
		}
		return value, ok, nil
	case f.SecretKeyRef != nil:
		ref := f.SecretKeyRef
		optional := ref.Optional != nil && *ref.Optional
		sec, err := s.Objects.Secret(ctx, p.Namespace, ref.Name)
		if err != nil {
			if optional && apierrors.IsNotFound(err) {
				return "", false, nil
			}
			return "", false, missing(err, "secret", ref.Name)
		}
		data, ok := sec.Data[ref.Key]
		if !ok && !optional {
			return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, p.Namespace, ref.Name)
		}
		return string(data), ok, nil
	case f.FileKeyRef != nil:
		return "", false, fmt.Errorf("environment variables from files (fileKeyRef) are not supported by this node")
	}
	return "", false, nil
}

// podField is a field of the pod, its addresses included.
func (s *Steps) podField(r *Run, path string) (string, error) {
	switch path {
	case "status.hostIP":
		if len(s.cfg.HostIPs) == 0 {
			return "", nil
		}
		return s.cfg.HostIPs[0].String(), nil
	case "status.hostIPs":
		return joinAddrs(s.cfg.HostIPs), nil
	case "status.podIP":
		if len(r.Pod.IPs) == 0 {
			return "", nil
		}
		return r.Pod.IPs[0].String(), nil
	case "status.podIPs":
		return joinAddrs(r.Pod.IPs), nil
	case "spec.nodeName":
		return s.cfg.NodeName, nil
	}
	return pod.FieldValue(r.Pod.Pod, path)
}

func joinAddrs[T fmt.Stringer](ips []T) string {
	parts := make([]string, len(ips))
	for i, ip := range ips {
		parts[i] = ip.String()
	}
	return strings.Join(parts, ",")
}

// serviceEnvironment is the addresses of Services as variables: always that of
// the API server, and with links those of the pod's namespace.
func (s *Steps) serviceEnvironment(namespace string, links bool) map[string]string {
	out := map[string]string{}
	if s.Services == nil {
		return out
	}
	for _, svc := range s.Services.InNamespace(metaDefault) {
		if svc.Name == "kubernetes" {
			serviceVariables(out, svc)
		}
	}
	if links {
		for _, svc := range s.Services.InNamespace(namespace) {
			serviceVariables(out, svc)
		}
	}
	return out
}

const metaDefault = "default"

// serviceVariables adds X_SERVICE_HOST, X_SERVICE_PORT and the older form that
// container links had.
func serviceVariables(out map[string]string, svc *corev1.Service) {
	ip := svc.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone || len(svc.Spec.Ports) == 0 {
		return
	}
	upper := func(n string) string { return strings.ToUpper(strings.ReplaceAll(n, "-", "_")) }
	name := upper(svc.Name)
	out[name+"_SERVICE_HOST"] = ip
	out[name+"_SERVICE_PORT"] = strconv.Itoa(int(svc.Spec.Ports[0].Port))
	for i, sp := range svc.Spec.Ports {
		port := strconv.Itoa(int(sp.Port))
		if sp.Name != "" {
			out[name+"_SERVICE_PORT_"+upper(sp.Name)] = port
		}
		proto := string(sp.Protocol)
		if proto == "" {
			proto = "TCP"
		}
		url := strings.ToLower(proto) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			out[name+"_PORT"] = url
		}
		prefix := name + "_PORT_" + port + "_" + strings.ToUpper(proto)
		out[prefix] = url
		out[prefix+"_PROTO"] = strings.ToLower(proto)
		out[prefix+"_PORT"] = port
		out[prefix+"_ADDR"] = ip
	}
}
