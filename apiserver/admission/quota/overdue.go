package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"sagong/object"
)

// dyingPod is a pod whose charge ends at a time, although nothing changes then.
type dyingPod struct {
	pod  *corev1.Pod
	at   time.Time
	over bool
}

// watchOver notes when the charge of a pod that is being deleted ends.
func (s *space) watchOver(o object.Object, now time.Time) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	if at, dying := overdueAt(p); dying {
		s.dying[p.UID] = &dyingPod{pod: p, at: at, over: now.After(at)}
	}
}

// overdue ends the charges of pods that should be gone, and says when the next
// one ends; zero when there is none. s is locked.
func (l *Ledger) overdue(s *space, now time.Time) (next time.Time) {
	for _, d := range s.dying {
		switch {
		case d.over:
		case !now.After(d.at):
			if next.IsZero() || d.at.Before(next) {
				next = d.at
			}
		default:
			before := pods.usage(d.pod, d.at)
			d.over = true
			after := pods.usage(d.pod, d.at.Add(1))
			for _, a := range s.accounts {
				if pods.inScopes(d.pod, a.scopes) {
					add(a.used, before, -1)
					add(a.used, after, 1)
					l.tell(a.key)
				}
			}
		}
	}
	return next
}
