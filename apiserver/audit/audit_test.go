package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver/audit"
)

const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

var quiet = slog.New(slog.DiscardHandler)

func TestPolicyErrors(t *testing.T) {
	for text, want := range map[string]string{
		head: "loaded illegal policy with 0 rules",
		"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]":      "no kind",
		head + "rules: [{level: All}]":                                                `rules[0].level: Unsupported value: "All"`,
		head + "rules: [{level: None, color: red}]":                                   `unknown field "rules[0].color"`,
		head + "rules: [{level: None, nonResourceURLs: [a]}]":                         "non-resource URL rules must begin with a '/' character",
		head + "rules: [{level: None, namespaces: [a], nonResourceURLs: [/a]}]":       "rules cannot apply to both regular resources and non-resource URLs",
		head + "omitStages: [Never]\nrules: [{level: None}]":                          "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
		head + "rules: [{level: None, resources: [{group: '', resourceNames: [a]}]}]": "using resourceNames requires at least one resource",
	} {
		if _, err := audit.DecodePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// events is a Sink that keeps what it gets.
type events struct {
	mu  sync.Mutex
	all []auditv1.Event
}

func (s *events) Write(e *auditv1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, *e)
}

func (s *events) Post(_ context.Context, in, _ any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, in.(*auditv1.EventList).Items...)
	return nil
}

func (s *events) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func attributes(who, verb, path string) authorizer.AttributesRecord {
	a := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: who, Groups: []string{"people"}}, Verb: verb, Path: path, APIVersion: "v1"}
	if p := strings.Split(path, "|"); len(p) == 5 {
		a.ResourceRequest, a.APIGroup, a.Namespace, a.Resource, a.Name, a.Subresource = true, p[0], p[1], p[2], p[3], p[4]
	}
	return a
}

func TestPolicyRules(t *testing.T) {
	p, err := audit.DecodePolicy([]byte(head + `
omitStages: [RequestReceived]
rules:
- {level: None, users: [noisy]}
- {level: RequestResponse, userGroups: [auditors, others]}
- {level: None, nonResourceURLs: [/healthz*, /version]}
- {level: Request, verbs: [delete], namespaces: [""]}
- {level: Metadata, omitStages: [ResponseStarted], resources: [{group: "", resources: [pods/log, "*/exec", services/*]}]}
- {level: RequestResponse, resources: [{group: "", resources: [secrets], resourceNames: [one]}, {group: apps}]}
- {level: Metadata, namespaces: [kube-system]}
`))
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]auditv1.Level{
		"noisy get /x":                       "",
		"jane get /healthz/ping":             "",
		"jane get /version":                  "",
		"jane get /versions":                 "",
		"jane delete |||x|":                  "Request",
		"jane delete |ns|pods|x|":            "",
		"jane get |ns|pods|x|log":            "Metadata",
		"jane get |ns|pods|x|exec":           "Metadata",
		"jane get |ns|services|x|proxy":      "Metadata",
		"jane get |ns|services|x|":           "Metadata",
		"jane get |ns|pods|x|":               "",
		"jane get |ns|secrets|one|":          "RequestResponse",
		"jane get |ns|secrets|two|":          "",
		"jane get apps|ns|deployments|x|":    "RequestResponse",
		"jane get batch|kube-system|jobs|x|": "Metadata",
		"jane get batch|default|jobs|x|":     "",
	} {
		f := strings.Fields(request)
		a := attributes(f[0], f[1], f[2])
		s := &events{}
		q := (&audit.Auditor{Policy: p, Sinks: []audit.Sink{s}}).Begin(httptest.NewRequest("GET", "/x", nil), "id", time.Now(), a)
		for _, stage := range []auditv1.Stage{audit.RequestReceived, audit.ResponseStarted, audit.ResponseComplete} {
			q.Stage(stage, 200, nil)
		}
		switch {
		case want == "" && len(s.all) > 0:
			t.Errorf("%s: %+v", request, s.all)
		case want != "" && (len(s.all) == 0 || s.all[0].Level != want || s.all[0].Stage == audit.RequestReceived):
			t.Errorf("%s: %+v, want %s", request, s.all, want)
		case want == "Metadata" && strings.Contains(request, "|ns|") && len(s.all) != 1:
			t.Errorf("%s: ResponseStarted is not omitted", request)
		}
	}
}

func TestBodies(t *testing.T) {
	const object = `{"kind":"Pod","metadata":{"name":"x","managedFields":[{"manager":"me"}]}}`
	for level, want := range map[string][2]bool{"Metadata": {}, "Request": {true, false}, "RequestResponse": {true, true}} {
		for _, omit := range []bool{false, true} {
			text := head + "rules: [{level: " + level + ", omitManagedFields: false}]"
			if omit {
				text = head + "omitManagedFields: true\nrules: [{level: " + level + "}]"
			}
			p, err := audit.DecodePolicy([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			s := &events{}
			r := httptest.NewRequest("POST", "/api/v1/namespaces/ns/pods?dryRun=All", nil)
			r.Header.Set("User-Agent", strings.Repeat("a", 2000))
			r.Header.Set("X-Forwarded-For", "10.0.0.1")
			q := (&audit.Auditor{Policy: p, Sinks: []audit.Sink{s}}).Begin(r, "id", time.Now(), attributes("jane", "create", "|ns|pods||"))
			q.Target(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "u"}})
			q.RequestBody([]byte(object))
			q.ResponseBody([]byte(`{"kind":"PodList","items":[` + object + `],"rows":[{"object":` + object + `}]}`))
			q.Note("a", "1")
			q.Note("a", "2")
			q.Note("patch.webhook.admission.k8s.io/round_0_index_0", "secret")
			q.Impersonated(&user.DefaultInfo{Name: "joe"}, "")
			q.Stage(audit.ResponseComplete, 409, &metav1.Status{Status: "Failure", Reason: "Conflict", Message: "no"})
			b, err := json.Marshal(s.all[0])
			if err != nil {
				t.Fatal(err)
			}
			got := string(b)
			if strings.Contains(got, `"requestObject":{"kind":"Pod"`) != want[0] || strings.Contains(got, `"responseObject":{`) != want[1] {
				t.Errorf("%s: %s", level, got)
			}
			if strings.Contains(got, `"patch.webhook.admission.k8s.io/round_0_index_0":"secret"`) != want[0] {
				t.Errorf("%s: the patch of a webhook: %s", level, got)
			}
			if n := strings.Count(got, "managedFields"); omit && n > 0 || !omit && want[1] && n != 3 {
				t.Errorf("%s, omit %t: managed fields are there %d times: %s", level, omit, n, got)
			}
			for _, part := range []string{
				`"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"` + level + `","auditID":"id","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/ns/pods?dryRun=All","verb":"create","user":{"username":"jane","groups":["people"]},"impersonatedUser":{"username":"joe"},"sourceIPs":["10.0.0.1","192.0.2.1"]`,
				`"objectRef":{"resource":"pods","namespace":"ns","name":"x","uid":"u","apiVersion":"v1"}`,
				`"responseStatus":{"metadata":{},"status":"Failure","message":"no","reason":"Conflict","code":409}`,
				`"annotations":{"a":"1"`, strings.Repeat("a", 1024) + "...TRUNCATED",
			} {
				if !strings.Contains(got, part) {
					t.Errorf("%s: %s is not in %s", level, part, got)
				}
			}
		}
	}
}

func event(id string) *auditv1.Event {
	return &auditv1.Event{AuditID: "id" + "-" + "x", Verb: id, Stage: audit.ResponseComplete}
}

func TestLogRotates(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := audit.LogOptions{Path: filepath.Join(dir, "audit.log"), MaxSize: 1, MaxBackups: 3, MaxAge: time.Hour, Log: quiet, Now: func() time.Time { return now }}
	other := filepath.Join(dir, "audit-mine.log")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := audit.OpenLog(o)
	if err != nil {
		t.Fatal(err)
	}
	files := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "audit-mine.log" {
				names = append(names, e.Name())
			}
		}
		return names
	}
	for _, verb := range []string{"a", "b", "c", "d", "e", "f"} {
		l.Write(event(verb))
	}
	l.Close()
	if got := strings.Join(files(), " "); got != "audit-2026-01-01T00-00-00.002.log audit-2026-01-01T00-00-00.003.log audit-2026-01-01T00-00-00.004.log audit.log" {
		t.Errorf("files: %s", got)
	}
	for _, name := range files() {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var e auditv1.Event
		if err := json.Unmarshal(b, &e); err != nil || bytes.Count(b, []byte("\n")) != 1 {
			t.Errorf("%s: %v: %s", name, err, b)
		}
	}
	now = now.Add(2 * time.Hour)
	o.Legacy = true
	if l, err = audit.OpenLog(o); err != nil {
		t.Fatal(err)
	}
	l.Write(event("g"))
	l.Close()
	if got := strings.Join(files(), " "); got != "audit-2026-01-01T02-00-00.000.log audit.log" {
		t.Errorf("files of two hours later: %s", got)
	}
	b, err := os.ReadFile(o.Path)
	if err != nil || !strings.Contains(string(b), ` AUDIT: id="id-x" stage="ResponseComplete" ip="<unknown>" method="g" user="<none>" groups="<none>" as="<self>" asgroups="<lookup>"`) {
		t.Errorf("legacy line: %s, %v", b, err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("a file of somebody else was removed")
	}
}

func TestWebhookSendsBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &events{}
		w := audit.NewWebhook(audit.WebhookOptions{To: to, BatchSize: 3, BatchWait: 10 * time.Second, Buffer: 5, Log: quiet})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		w.Write(event("a"))
		synctest.Wait()
		if to.count() != 0 {
			t.Error("a single event was sent at once")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if to.count() != 1 {
			t.Error("an event was not sent in time")
		}
		for range 4 {
			w.Write(event("b"))
		}
		synctest.Wait()
		if to.count() != 4 {
			t.Errorf("%d events were sent, want a whole batch", to.count())
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) || to.count() != 5 {
			t.Errorf("%v, %d events were sent by the end", err, to.count())
		}
		for range 9 {
			w.Write(event("too many")) // nobody takes them: must not block
		}
	})
}

func TestTruncate(t *testing.T) {
	body := &runtime.Unknown{Raw: []byte(`"` + strings.Repeat("x", 2000) + `"`)}
	notes := map[string]string{"a": "b"}
	for level, want := range map[auditv1.Level]int{auditv1.LevelRequestResponse: 2, auditv1.LevelMetadata: 1} {
		s := &events{}
		c := audit.Truncate{To: s, Most: 1000, Log: quiet}
		c.Write(&auditv1.Event{AuditID: "large", Level: level, RequestObject: body, ResponseObject: body, Annotations: notes})
		c.Write(&auditv1.Event{AuditID: "small", Level: level, RequestObject: &runtime.Unknown{Raw: []byte("{}")}})
		c.Write(&auditv1.Event{AuditID: "too large", Level: level, RequestURI: strings.Repeat("x", 2000)})
		if len(s.all) != want || s.all[want-1].RequestObject == nil {
			t.Fatalf("%s: %d events", level, len(s.all))
		}
		if cut := s.all[0]; want == 2 && (cut.RequestObject != nil || cut.ResponseObject != nil || cut.Annotations["audit.k8s.io/truncated"] != "true" || cut.Annotations["a"] != "b") {
			t.Errorf("%+v", cut)
		}
	}
	if len(notes) != 1 {
		t.Error("the event of others was changed")
	}
}

// requests keeps how many events each request held.
type requests struct {
	mu  sync.Mutex
	all []int
}

func (r *requests) Post(_ context.Context, in, _ any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, len(in.(*auditv1.EventList).Items))
	return nil
}

func TestWebhookSplitsBatches(t *testing.T) {
	to := &requests{}
	w := audit.NewWebhook(audit.WebhookOptions{To: to, Log: quiet, MaxBytes: 2500})
	for _, n := range []int{1000, 1000, 1000, 4000, 10} {
		w.Write(&auditv1.Event{RequestURI: strings.Repeat("x", n)})
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_ = w.Run(ctx)
	slices.Sort(to.all)
	if !slices.Equal(to.all, []int{1, 1, 1, 2}) {
		t.Errorf("requests with %v events", to.all)
	}
}

func FuzzDecodePolicy(f *testing.F) {
	f.Add([]byte(head + "rules: [{level: Metadata, users: [a]}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := audit.DecodePolicy(data)
		if err != nil {
			return
		}
		q := (&audit.Auditor{Policy: p}).Begin(httptest.NewRequest("GET", "/x", nil), "id", time.Now(), attributes("jane", "get", "|ns|pods|x|log"))
		q.RequestBody(data)
		q.Patch(data)
		q.Stage(audit.ResponseComplete, 200, nil)
	})
}

func TestDefaultPolicy(t *testing.T) {
	lease := authorizer.AttributesRecord{
		Verb: "update", Namespace: "kube-node-lease", APIGroup: "coordination.k8s.io", Resource: "leases", Name: "n1", ResourceRequest: true,
	}
	created, leader := lease, lease
	created.Verb, leader.Namespace = "create", "kube-system"
	for i, tt := range []struct {
		attr authorizer.AttributesRecord
		want bool
	}{
		{lease, false},
		{created, true},
		{leader, true},
		{authorizer.AttributesRecord{Verb: "get", Path: "/livez/ping"}, false},
		{authorizer.AttributesRecord{Verb: "get", Path: "/api"}, true},
	} {
		a := audit.Auditor{Policy: audit.DefaultPolicy()}
		if got := a.Begin(httptest.NewRequest("GET", "/", nil), "id", time.Now(), tt.attr) != nil; got != tt.want {
			t.Errorf("%d: written down: %t", i, got)
		}
	}
}
