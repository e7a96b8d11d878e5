package hooks

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/kubelet/pod"
	"sagong/object"
	"sagong/runtime"
	"sagong/runtime/image"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "EMPTY": "", "B": "$(A)"}
	look := func(n string) (string, bool) { v, ok := vars[n]; return v, ok }
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "1", "x$(A)y": "x1y", "$(NONE)": "$(NONE)", "$$(A)": "$(A)", "$$$(A)": "$1", "$$$$(A)": "$$(A)",
		"$(EMPTY)": "", "$(B)": "$(A)", "$A": "$A", "$": "$", "$$": "$", "$(A": "$(A", "a$": "a$", "$(A)$(A)": "11", "$()": "$()", "$(A))": "1)",
	} {
		if got := Expand(in, look); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

type objects struct{}

func (objects) ConfigMap(ctx context.Context, ns, name string) (*corev1.ConfigMap, error) {
	if name == "cm" {
		return &corev1.ConfigMap{Data: map[string]string{"k": "v", "bad=name": "x"}}, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmaps"), name)
}

func (objects) Secret(ctx context.Context, ns, name string) (*corev1.Secret, error) {
	if name == "sec" {
		return &corev1.Secret{Data: map[string][]byte{"pw": []byte("p")}}, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}

type services map[string][]*corev1.Service

func (s services) InNamespace(ns string) []*corev1.Service { return s[ns] }

type silent struct{}

func (silent) Eventf(object.Object, string, string, string, ...any)                {}
func (silent) EventForField(object.Object, string, string, string, string, ...any) {}

func newSteps(t *testing.T) *Steps {
	dir := t.TempDir()
	resolv := filepath.Join(dir, "resolv.conf")
	os.WriteFile(resolv, []byte("# c\nnameserver 9.9.9.9\nsearch corp.example.\noptions rotate\n"), 0o644)
	svc := func(name, ip string, ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	return New(Config{NodeName: "n", ClusterDomain: "cluster.local", ClusterDNS: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, ResolvConf: resolv,
		HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Allocatable: func() corev1.ResourceList {
			return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi")}
		}}, Deps{Objects: objects{}, Recorder: silent{}, Services: services{
		"default": {svc("kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443, Protocol: "TCP"})},
		"ns":      {svc("my-db", "10.96.0.2", corev1.ServicePort{Port: 5432}), svc("headless", "None", corev1.ServicePort{Port: 1})},
	}})
}

func TestEnvironment(t *testing.T) {
	s := newSteps(t)
	yes, no := true, false
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"l": "x"}}, Spec: corev1.PodSpec{ServiceAccountName: "sa"}}
	field := func(f string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: f}}
	}
	c := corev1.Container{Name: "c",
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10Mi")}, Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}},
		EnvFrom: []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: &yes}}},
		Env: []corev1.EnvVar{
			{Name: "A", Value: "a$(P_k)$(MY_DB_SERVICE_HOST)"}, {Name: "B", Value: "$(C)"}, {Name: "C", Value: "$(A)"}, {Name: "P_k", Value: "over"},
			{Name: "NODE", ValueFrom: field("spec.nodeName")}, {Name: "IPS", ValueFrom: field("status.podIPs")}, {Name: "HOST", ValueFrom: field("status.hostIP")}, {Name: "HOSTS", ValueFrom: field("status.hostIPs")},
			{Name: "L", ValueFrom: field("metadata.labels['l']")}, {Name: "SA", ValueFrom: field("spec.serviceAccountName")}, {Name: "UID", ValueFrom: field("metadata.uid")},
			{Name: "MEM", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Mi")}}},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "requests.cpu", Divisor: resource.MustParse("1m")}}},
			{Name: "CPUS", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "PW", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "pw"}}},
			{Name: "NOT", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "none", Optional: &yes}}},
		}}
	p.Spec.Containers = []corev1.Container{c}
	r := &Run{Pod: &Pod{Pod: p, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}, Member: pod.Members(p)[0]}
	e, warnings, err := s.environment(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"A": "av10.96.0.2", "B": "$(C)", "C": "av10.96.0.2", "P_k": "over", "NODE": "n", "IPS": "10.0.0.1,fd00::1", "HOST": "192.0.2.1", "HOSTS": "192.0.2.1,2001:db8::1",
		"L": "x", "SA": "sa", "UID": "u", "MEM": "10", "CPU": "250", "CPUS": "2", "PW": "p",
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT_HTTPS": "443", "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443", "MY_DB_PORT_5432_TCP_ADDR": "10.96.0.2",
	} {
		if got := e.values[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if _, ok := e.values["NOT"]; ok {
		t.Error("an optional key that is missing became a variable")
	}
	if _, ok := e.values["HEADLESS_SERVICE_HOST"]; ok {
		t.Error("a headless Service became a variable")
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "Keys [bad=name] from the EnvFrom configMap ns/cm were skipped") {
		t.Errorf("warnings are %q", warnings)
	}
	p.Spec.EnableServiceLinks = &no
	if e, _, _ = s.environment(t.Context(), r); e.values["MY_DB_SERVICE_HOST"] != "" || e.values["KUBERNETES_SERVICE_HOST"] == "" {
		t.Error("enableServiceLinks: false is not obeyed")
	}
	for _, x := range []struct {
		v    corev1.EnvVarSource
		want string
	}{
		{corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Key: "k"}}, `configmap "none" not found`},
		{corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "sec"}, Key: "none"}}, "couldn't find key none in Secret ns/sec"},
		{corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{}}, "environment variables from files (fileKeyRef) are not supported by this node"},
	} {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "X", ValueFrom: &x.v}}
		if _, _, err := s.environment(t.Context(), r); err == nil || err.Error() != x.want {
			t.Errorf("%v, want %s", err, x.want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	s := newSteps(t)
	two := "2"
	cfg := &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"x.example"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}, {Name: "edns0"}}}
	for _, x := range []struct {
		spec corev1.PodSpec
		want string
	}{
		{corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, "search corp.example\nnameserver 9.9.9.9\noptions rotate\n"},
		{corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, "search corp.example\nnameserver 9.9.9.9\noptions rotate\n"},
		{corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: cfg}, "search x.example\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"},
		{corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: cfg}, "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example x.example\nnameserver 10.96.0.10\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"},
	} {
		got, _, err := s.resolvConf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: x.spec})
		if err != nil || string(got) != x.want {
			t.Errorf("%+v: %v\n%s\nwant\n%s", x.spec, err, got, x.want)
		}
	}
	many := corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"}}}
	got, warnings, _ := s.resolvConf(&corev1.Pod{Spec: many})
	if strings.Contains(string(got), "1.1.1.4") || len(warnings) != 1 || !strings.HasPrefix(warnings[0], "Nameserver limits were exceeded") {
		t.Errorf("%s %q", got, warnings)
	}
}

func TestHostname(t *testing.T) {
	s := newSteps(t)
	yes, over := true, "over.ride"
	long := strings.Repeat("a", 62) + "-b"
	for _, x := range []struct {
		name string
		spec corev1.PodSpec
		want string
	}{
		{"p", corev1.PodSpec{}, "p"}, {"p", corev1.PodSpec{Hostname: "h"}, "h"}, {"p", corev1.PodSpec{Hostname: "h", Subdomain: "s"}, "h"},
		{"p", corev1.PodSpec{Hostname: "h", Subdomain: "s", SetHostnameAsFQDN: &yes}, "h.s.ns.svc.cluster.local"}, {"p", corev1.PodSpec{HostNetwork: true}, "n"},
		{long, corev1.PodSpec{}, strings.Repeat("a", 62)}, {"p", corev1.PodSpec{HostnameOverride: &over}, "over.ride"},
	} {
		if got, err := s.Hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: x.name}, Spec: x.spec}); err != nil || got != x.want {
			t.Errorf("%q, %v, want %q", got, err, x.want)
		}
	}
	if _, err := s.Hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{Hostname: strings.Repeat("h", 50), Subdomain: "s", SetHostnameAsFQDN: &yes}}); err == nil {
		t.Error("a name of more than 64 characters was accepted")
	}
}

func TestPullCredentials(t *testing.T) {
	sec := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(
		`{"auths":{"https://reg.example:5000/v2/":{"auth":"dXNlcjpwYXNz"},"*.wild.example":{"username":"w","password":"x"},"reg.example:5000/team":{"username":"t","password":"y"},"https://index.docker.io/v1/":{"username":"d","password":"z"}}}`)}}
	for ref, want := range map[string]string{
		"reg.example:5000/app:1": "user", "reg.example:5000/team/app:1": "t user", "reg.example:5000/teams/app": "user", "a.wild.example/x": "w", "wild.example/x": "", "other/x": "d", "nginx": "d", "reg.example/app": "",
	} {
		found := matching(sec, ref)
		slices.SortFunc(found, func(a, b match) int { return strings.Compare(a.cred.Username, b.cred.Username) })
		var got []string
		for _, m := range found {
			got = append(got, m.cred.Username)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", ref, got, want)
		}
	}
	old := &corev1.Secret{Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"reg.example":{"username":"u","password":"p"}}`)}}
	if got := matching(old, "reg.example/app"); len(got) != 1 || got[0].cred != (image.Credential{Username: "u", Password: "p"}) {
		t.Errorf("legacy: %+v", got)
	}
}

func TestNonRoot(t *testing.T) {
	s := newSteps(t)
	s.Runtime = users{}
	yes, zero, user := true, int64(0), int64(5)
	run := func(imageUser string, sc *corev1.SecurityContext) error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
		r := &Run{Pod: &Pod{Pod: p}, Member: pod.Member{Container: &corev1.Container{Name: "c"}}, Image: &image.Image{Config: image.Config{User: imageUser}}}
		_, err := s.user(t.Context(), r, sc)
		return err
	}
	for _, x := range []struct {
		user string
		sc   corev1.SecurityContext
		want string
	}{
		{"", corev1.SecurityContext{}, ""}, {"5", corev1.SecurityContext{RunAsNonRoot: &yes}, ""}, {"", corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &user}, ""},
		{"", corev1.SecurityContext{RunAsNonRoot: &yes}, `container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: c)`},
		{"0:5", corev1.SecurityContext{RunAsNonRoot: &yes}, `container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: c)`},
		{"app", corev1.SecurityContext{RunAsNonRoot: &yes}, `container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "p_ns(u)", container: c)`},
		{"5", corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &zero}, `container's runAsUser breaks non-root policy (pod: "p_ns(u)", container: c)`},
	} {
		if err := run(x.user, &x.sc); fmt.Sprint(err) != x.want && !(err == nil && x.want == "") {
			t.Errorf("user %q: %v, want %s", x.user, err, x.want)
		}
	}
}

type users struct{ runtime.Runtime }

func (users) ResolveUser(context.Context, runtime.Rootfs, string) (runtime.User, error) {
	return runtime.User{}, nil
}

// stopper is a runtime whose containers run until they are killed.
type stopper struct {
	runtime.Runtime
	graces chan time.Duration
	hook   func(ctx context.Context) error
}

func (s stopper) StopContainer(ctx context.Context, id string, st runtime.Stop) error {
	s.graces <- st.Grace.Round(time.Second)
	return nil
}

func (s stopper) Exec(ctx context.Context, id string, o runtime.ExecOptions) (int, error) {
	return 0, s.hook(ctx)
}

func TestForbiddenSysctl(t *testing.T) {
	s := newSteps(t)
	s.cfg.AllowedUnsafeSysctls = []string{"net.core.*"}
	for name, ok := range map[string]bool{"net.ipv4.tcp_syncookies": true, "net.core.somaxconn": true, "net.ipv4.ip_forward": false, "kernel.panic": false, "net/core/somaxconn": true} {
		p := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: name, Value: "1"}}}}}
		if err := s.ForbiddenSysctl(p); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLogTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "2026-01-01T00:00:00.000000000Z stdout F line %d\n", i)
	}
	os.WriteFile(path, []byte(b.String()), 0o644)
	got := logTail(path)
	if lines := strings.Split(strings.TrimSpace(got), "\n"); len(lines) != 80 || lines[79] != "line 199" || lines[0] != "line 120" {
		t.Errorf("got %q", got)
	}
}
