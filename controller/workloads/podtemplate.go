package workloads

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sagong/client"
	"sagong/object"
)

// podFrom makes the pod that a template asks for. The caller owns it.
func podFrom(t *corev1.PodTemplateSpec, namespace, ownerName string, ref *metav1.OwnerReference) *corev1.Pod {
	prefix := ownerName + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = ownerName
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:    namespace,
			GenerateName: prefix,
			Labels:       maps.Clone(t.Labels),
			Annotations:  maps.Clone(t.Annotations),
			Finalizers:   append([]string(nil), t.Finalizers...),
		},
	}
	if ref != nil {
		p.OwnerReferences = []metav1.OwnerReference{*ref}
	}
	t.Spec.DeepCopyInto(&p.Spec)
	return p
}

// deletion is the write that deletes exactly the object given.
func deletion(d *object.Definition, o object.Object) client.Write {
	target := d.New()
	target.SetNamespace(o.GetNamespace())
	target.SetName(o.GetName())
	uid := o.GetUID()
	target.SetUID(uid)
	return client.Write{
		Op: client.OpDelete, Definition: d, Object: target,
		Delete: metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	}
}
