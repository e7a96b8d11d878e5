package compose

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver"
	"sagong/config"
)

// auditLog writes one line of JSON a request, as audit.k8s.io/v1 Events at
// level Metadata, and rotates the file by size. Reads of health and the
// server's own are left out, as upstream's default policies do.
type auditLog struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	file   *os.File
	buf    *bufio.Writer
	size   int64
	flush  *time.Timer
	armed  bool
	failed bool
}

const (
	auditFileBytes = 64 << 20
	auditFiles     = 5
	// auditDelay is how long a line may wait for others before it is written.
	auditDelay = 200 * time.Millisecond
)

// auditEvent is audit.k8s.io/v1 Event, with the fields of level Metadata.
type auditEvent struct {
	Kind                     string                     `json:"kind"`
	APIVersion               string                     `json:"apiVersion"`
	Level                    string                     `json:"level"`
	AuditID                  string                     `json:"auditID"`
	Stage                    apiserver.Stage            `json:"stage"`
	RequestURI               string                     `json:"requestURI"`
	Verb                     string                     `json:"verb"`
	User                     authenticationv1.UserInfo  `json:"user"`
	ImpersonatedUser         *authenticationv1.UserInfo `json:"impersonatedUser,omitempty"`
	SourceIPs                []string                   `json:"sourceIPs,omitempty"`
	UserAgent                string                     `json:"userAgent,omitempty"`
	ObjectRef                *auditObject               `json:"objectRef,omitempty"`
	ResponseStatus           *metav1.Status             `json:"responseStatus,omitempty"`
	RequestReceivedTimestamp metav1.MicroTime           `json:"requestReceivedTimestamp"`
	StageTimestamp           metav1.MicroTime           `json:"stageTimestamp"`
	Annotations              map[string]string          `json:"annotations,omitempty"`
}

type auditObject struct {
	Resource        string `json:"resource,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name,omitempty"`
	UID             string `json:"uid,omitempty"`
	APIGroup        string `json:"apiGroup,omitempty"`
	APIVersion      string `json:"apiVersion,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	Subresource     string `json:"subresource,omitempty"`
}

func openAuditLog(c config.Config, log *slog.Logger) (*auditLog, error) {
	if c.AuditLog == "off" {
		return nil, nil
	}
	a := &auditLog{path: c.AuditLog, log: log}
	a.flush = time.AfterFunc(time.Hour, a.write)
	a.flush.Stop()
	return a, a.open()
}

func (a *auditLog) open() error {
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the audit log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("cannot open the audit log: %w", err)
	}
	a.file, a.size, a.buf = f, info.Size(), bufio.NewWriterSize(f, 64<<10)
	return nil
}

// hook is what the API server is told to call; nil when there is no log.
func (a *auditLog) hook() apiserver.Audit {
	if a == nil {
		return nil
	}
	return a
}

// Audit implements apiserver.Audit.
func (a *auditLog) Audit(e *apiserver.AuditEvent) {
	if e.Stage == apiserver.StageRequestReceived || e.Stage == apiserver.StageResponseStarted {
		return // the end says all of it
	}
	if !e.Info.Resource && e.Code < 400 {
		switch e.Info.Path {
		case "/healthz", "/livez", "/readyz", "/version", "/metrics":
			return
		}
	}
	out := auditEvent{
		Kind: "Event", APIVersion: "audit.k8s.io/v1", Level: "Metadata", AuditID: e.ID, Stage: e.Stage, RequestURI: e.RequestURI,
		Verb: e.Info.Verb, SourceIPs: e.SourceIPs, UserAgent: e.UserAgent, Annotations: e.Annotations,
		RequestReceivedTimestamp: metav1.NewMicroTime(e.Received), StageTimestamp: metav1.NewMicroTime(e.At),
	}
	if u := auditUser(e.User); u != nil {
		out.User = *u
	}
	out.ImpersonatedUser = auditUser(e.Impersonated)
	if e.Info.Resource {
		out.ObjectRef = &auditObject{
			Resource: e.Info.GVR().Resource, APIGroup: e.Info.GVR().Group, APIVersion: e.Info.GVR().Version, Namespace: e.Info.Namespace,
			Name: e.Info.Name, Subresource: e.Info.Subresource, UID: string(e.UID), ResourceVersion: e.ResourceVersion,
		}
	}
	if e.Code != 0 {
		out.ResponseStatus = &metav1.Status{Code: int32(e.Code)}
		if e.Status != nil {
			out.ResponseStatus = &metav1.Status{Status: e.Status.Status, Message: e.Status.Message, Reason: e.Status.Reason, Code: int32(e.Code)}
		}
	}
	line, err := json.Marshal(out)
	if err != nil {
		a.log.Error("cannot encode an audit event", "err", err)
		return
	}
	a.add(append(line, '\n'))
}

func auditUser(u user.Info) *authenticationv1.UserInfo {
	if u == nil {
		return nil
	}
	out := &authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

func (a *auditLog) add(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.size+int64(len(line)) > auditFileBytes {
		a.rotate()
	}
	if a.file == nil {
		return
	}
	n, err := a.buf.Write(line)
	a.size += int64(n)
	a.report(err)
	if !a.armed {
		a.armed = true
		a.flush.Reset(auditDelay)
	}
}

func (a *auditLog) write() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.armed = false
	if a.file != nil {
		a.report(a.buf.Flush())
	}
}

// rotate keeps the last auditFiles files.
func (a *auditLog) rotate() {
	if a.file != nil {
		a.report(a.buf.Flush())
		a.file.Close()
		a.file = nil
	}
	for i := auditFiles - 2; i >= 1; i-- {
		_ = os.Rename(fmt.Sprintf("%s.%d", a.path, i), fmt.Sprintf("%s.%d", a.path, i+1))
	}
	a.report(os.Rename(a.path, a.path+".1"))
	a.report(a.open())
}

// report says a failure once, until writing works again: a full disk must not
// fill the server's log as well.
func (a *auditLog) report(err error) {
	if err != nil && !a.failed {
		a.log.Error("cannot write the audit log", "err", err)
	}
	a.failed = err != nil
}

func (a *auditLog) close() {
	if a == nil {
		return
	}
	a.flush.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.report(a.buf.Flush())
		a.file.Close()
		a.file = nil
	}
}
