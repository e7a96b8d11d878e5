// Package examples holds manifests a newcomer applies. This test reads them as
// strictly as the API server does, and checks that what they refer to is there.
package examples

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"

	"sagong/hello"
)

// read decodes every object of a manifest; an unknown field is an error.
func read(t *testing.T, path string) []runtime.Object {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	in := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var list []runtime.Object
	for {
		doc, err := in.Read()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		list = append(list, o)
	}
}

// podsOf returns the pods, or pod templates, with their labels.
func podsOf(o runtime.Object) (*corev1.PodSpec, labels.Set) {
	switch o := o.(type) {
	case *corev1.Pod:
		return &o.Spec, o.Labels
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec, o.Spec.Template.Labels
	}
	return nil, nil
}

func TestExamples(t *testing.T) {
	paths, err := filepath.Glob("*.yaml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("examples are %v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			list := read(t, path)
			have := map[string]bool{}
			for _, o := range list {
				m := o.(metav1.Object)
				have[o.GetObjectKind().GroupVersionKind().Kind+" "+m.GetNamespace()+" "+m.GetName()] = true
			}
			for _, o := range list {
				ns := o.(metav1.Object).GetNamespace()
				if ns != "" && !have["Namespace  "+ns] {
					t.Errorf("namespace %s is not in it", ns)
				}
				if s, ok := o.(*corev1.Service); ok {
					matched := false
					for _, p := range list {
						if _, l := podsOf(p); l != nil && labels.SelectorFromSet(s.Spec.Selector).Matches(l) {
							matched = true
						}
					}
					if !matched {
						t.Errorf("Service %s selects nothing", s.Name)
					}
				}
				spec, _ := podsOf(o)
				if spec == nil {
					continue
				}
				volumes := map[string]bool{}
				for _, v := range spec.Volumes {
					volumes[v.Name] = true
					if v.ConfigMap != nil && !have["ConfigMap "+ns+" "+v.ConfigMap.Name] || v.Secret != nil && !have["Secret "+ns+" "+v.Secret.SecretName] {
						t.Errorf("volume %s refers to nothing", v.Name)
					}
				}
				for _, c := range append(slices.Clone(spec.InitContainers), spec.Containers...) {
					name, tag, _ := strings.Cut(c.Image, ":")
					if name != hello.Repository || !slices.Contains(hello.Versions(), tag) {
						t.Errorf("image %s needs a registry", c.Image)
					}
					for _, m := range c.VolumeMounts {
						if !volumes[m.Name] {
							t.Errorf("volume %s does not exist", m.Name)
						}
					}
					for _, e := range c.Env {
						if f := e.ValueFrom; f != nil && (f.ConfigMapKeyRef != nil && !have["ConfigMap "+ns+" "+f.ConfigMapKeyRef.Name] || f.SecretKeyRef != nil && !have["Secret "+ns+" "+f.SecretKeyRef.Name]) {
							t.Errorf("variable %s refers to nothing", e.Name)
						}
					}
				}
			}
		})
	}
}
