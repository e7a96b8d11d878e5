package resource

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/object"
)

// Companions knows which objects of other kinds live and die with those of one
// kind, such as the IPAddresses of a Service.
type Companions interface {
	// Beside says what is written together with an object: old is nil when it is
	// new, obj when it goes. The server writes all of it, with the object, or
	// nothing. It is asked anew for each try of the write, and may be at the same
	// time for several objects.
	Beside(ctx context.Context, old, obj object.Object) ([]Companion, error)
}

// Companion is an object to create, or the name of one to delete.
type Companion struct {
	Definition *object.Definition
	Create     object.Object
	Delete     string
}

// Accompany has c asked about every write of a kind but those of Seed. It is
// called while the server is composed.
func (e *Engine) Accompany(d *object.Definition, c Companions) { e.Kind(d).companions = c }

// self is on whose behalf the server writes companions.
var self = Caller{User: &user.DefaultInfo{Name: "system:apiserver", Groups: []string{user.SystemPrivilegedGroup}}, Agent: "kube-apiserver"}

// accompany puts into s what is written with it. When it fails, nothing was
// admitted but s.
func (e *Engine) accompany(ctx context.Context, s *step, old, obj object.Object) error {
	if s.kind.companions == nil {
		return nil
	}
	list, err := s.kind.companions.Beside(ctx, old, obj)
	for _, c := range list {
		if err != nil {
			break
		}
		t := Target{Kind: e.Kind(c.Definition), Name: c.Delete}
		var w step
		if c.Create != nil {
			w, err = e.create(self, t, c.Create, &metav1.CreateOptions{})(ctx)
		} else if w, err = e.delete(self, t, &metav1.DeleteOptions{}, nil)(ctx); err != nil {
			// Gone already, or somebody's webhook keeps it, which is left to a
			// controller: neither holds up the object it was for.
			e.log.Debug("a companion is not deleted", "resource", t.Resource, "name", t.Name, "err", err)
			w, err = step{}, nil
		}
		if w.op != nil {
			s.with = append(s.with, w)
		} else {
			e.settled(ctx, w.admitted, err)
		}
	}
	if err != nil {
		e.settledAll(ctx, step{with: s.with}, err)
		s.with = nil
	}
	return err
}
