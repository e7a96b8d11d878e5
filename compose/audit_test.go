package compose

import (
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"sagong/apiserver"
	"sagong/config"
)

func TestAuditLogRotatesAndKeepsWholeLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	a, err := openAuditLog(config.Config{AuditLog: file}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ev := &apiserver.AuditEvent{
		ID: "1", Stage: apiserver.StageResponseComplete, Code: 201, User: &user.DefaultInfo{Name: "jane"},
		RequestURI: (&url.URL{Path: "/api/v1/namespaces/default/pods"}).String(),
		Info:       &apiserver.Info{Resource: true, Verb: "create", Plural: "pods", Namespace: "default", GV: schema.GroupVersion{Version: "v1"}},
	}
	a.Audit(ev)
	a.size = auditFileBytes // as if it were full
	a.Audit(ev)
	a.close()
	for _, f := range []string{file, file + ".1"} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		var got auditEvent
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil || len(lines) != 1 {
			t.Fatalf("%s: %d lines, %v", f, len(lines), err)
		}
		if got.User.Username != "jane" || got.Verb != "create" || got.ObjectRef.Resource != "pods" || got.ResponseStatus.Code != 201 || got.Kind != "Event" {
			t.Errorf("%s: %s", f, lines[0])
		}
	}
}
