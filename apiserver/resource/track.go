package resource

import (
	"k8s.io/apimachinery/pkg/runtime"

	"sagong/object"
)

// track records on a new object which fields its creator owns.
func (e *Engine) track(c Caller, t Target, empty runtime.Object, obj object.Object, named string) error {
	if e.fields == nil || t.Virtual {
		return nil
	}
	return e.fields.Create(t.Codec, t.WireVersion(), empty.(object.Object), obj, c.manager(named), e.now())
}

// trackUpdate records which fields a write changed. What the request does not
// write is put back first, so that a client owns only what it could change.
func (e *Engine) trackUpdate(c Caller, t Target, isPart bool, old, obj object.Object, o updateOptions) error {
	if e.fields == nil {
		return nil
	}
	subresource := t.Subresource
	switch {
	case subresource == "status":
		object.KeepAllButStatus(obj, old)
	case !isPart && t.Status:
		object.KeepStatus(obj, old)
	}
	if o.scale {
		subresource = "scale"
	}
	return e.fields.Update(t.Codec, t.WireVersion(), subresource, old, obj, c.manager(o.fieldManager), e.now())
}
