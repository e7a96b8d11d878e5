package audit

import (
	"log/slog"
	"maps"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sagong/object"
)

// truncatedKey is the annotation of an event whose bodies were left out.
const truncatedKey = "audit.k8s.io/truncated"

// Truncate is a Sink that leaves the bodies out of events which are too large for
// the one behind it. What is too large without them as well is dropped.
type Truncate struct {
	To Sink
	// Most is how large an event may be, in bytes of JSON.
	Most int
	Log  *slog.Logger
}

// Write implements Sink.
func (t Truncate) Write(e *auditv1.Event) {
	n := size(e)
	if n > t.Most && (e.Level == auditv1.LevelRequest || e.Level == auditv1.LevelRequestResponse) {
		cut := *e
		cut.RequestObject, cut.ResponseObject = nil, nil
		cut.Annotations = maps.Clone(e.Annotations)
		if cut.Annotations == nil {
			cut.Annotations = map[string]string{}
		}
		cut.Annotations[truncatedKey] = "true"
		e, n = &cut, size(&cut)
	}
	if n > t.Most {
		t.Log.Error("an audit event is lost: it is too large even after truncating", "id", e.AuditID, "bytes", n)
		return
	}
	t.To.Write(e)
}

// size is what an event takes as JSON, in bytes.
func size(e *auditv1.Event) int {
	buf := lines.Get().(*[]byte)
	defer lines.Put(buf)
	b, err := object.AppendJSON((*buf)[:0], e)
	if err != nil {
		return 0 // who writes it down will say so
	}
	*buf = b
	return len(b)
}
