package apiserver_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sagong/apiserver"
)

// auditEvents keeps what it is told.
type auditEvents struct {
	mu  sync.Mutex
	all []auditv1.Event
}

func (s *auditEvents) Write(e *auditv1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, *e)
}

// take returns what came since it was last called, without what is the same each
// time.
func (s *auditEvents) take(stages ...auditv1.Stage) (out []auditv1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.all {
		for _, want := range stages {
			if e.Stage == want {
				out = append(out, e)
			}
		}
	}
	s.all = nil
	return out
}

func raw(e *auditv1.Event) (request, response string) {
	if e.RequestObject != nil {
		request = string(e.RequestObject.Raw)
	}
	if e.ResponseObject != nil {
		response = string(e.ResponseObject.Raw)
	}
	return request, response
}

// conformance: [sig-auth] Advanced Audit (its levels, stages and bodies)
func TestAuditBodies(t *testing.T) {
	sink := &auditEvents{}
	c := start(t, func(o *apiserver.Options) { o.Audit = everything(sink) })
	for name, media := range map[string]string{"json": "application/json", "protobuf": "application/vnd.kubernetes.protobuf"} {
		maps := c.clientset(media).CoreV1().ConfigMaps("default")
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"a": "planted"}}
		steps := map[string]func() error{
			"create": func() error { _, err := maps.Create(c.ctx, cm, metav1.CreateOptions{}); return err },
			"get":    func() error { _, err := maps.Get(c.ctx, name, metav1.GetOptions{}); return err },
			"list":   func() error { _, err := maps.List(c.ctx, metav1.ListOptions{}); return err },
			"update": func() error { _, err := maps.Update(c.ctx, cm, metav1.UpdateOptions{}); return err },
			"patch": func() error {
				_, err := maps.Patch(c.ctx, name, types.MergePatchType, []byte(`{"data":{"b":"patched"}}`), metav1.PatchOptions{})
				return err
			},
			"delete": func() error {
				return maps.Delete(c.ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: new(string)}})
			},
		}
		for _, x := range []struct{ verb, request, response string }{
			{"create", `"a":"planted"`, `"uid":`},
			{"get", "", `"apiVersion":"v1"`},
			{"list", "", `"kind":"ConfigMapList"`},
			{"update", `"a":"planted"`, `"uid":`},
			{"patch", `{"data":{"b":"patched"}}`, `"b":"patched"`},
			{"delete", `"kind":"DeleteOptions"`, `"reason":"Conflict"`},
		} {
			sink.take()
			err := steps[x.verb]()
			if (err != nil) != (x.verb == "delete") {
				t.Fatal(x.verb, err)
			}
			got := sink.take(auditv1.StageResponseComplete)
			if len(got) != 1 || got[0].Verb != x.verb || got[0].ObjectRef.Resource != "configmaps" || got[0].ObjectRef.Namespace != "default" || x.verb != "list" && got[0].ObjectRef.Name != name {
				t.Fatalf("%s %s: %+v", name, x.verb, got)
			}
			request, response := raw(&got[0])
			if !strings.Contains(request, x.request) || x.request == "" && request != "" || !strings.Contains(response, x.response) {
				t.Errorf("%s %s: request %s, response %s", name, x.verb, request, response)
			}
			for _, body := range []string{request, response} {
				if body != "" && (!json.Valid([]byte(body)) || x.verb != "patch" && !strings.Contains(body, `"kind":`)) {
					t.Errorf("%s %s: %s", name, x.verb, body)
				}
			}
		}
	}
}

func TestAuditStages(t *testing.T) {
	sink := &auditEvents{}
	c := start(t, func(o *apiserver.Options) { o.Audit = everything(sink) })
	c.server.Handle("/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("on purpose") }))
	if code, _ := c.do("GET", "/panic", ""); code != 500 {
		t.Error(code)
	}
	got := sink.take(auditv1.StageRequestReceived, auditv1.StagePanic, auditv1.StageResponseComplete)
	if len(got) != 2 || got[1].Stage != auditv1.StagePanic || got[1].ResponseStatus.Message != "APIServer panic'd: on purpose" || got[1].ResponseStatus.Code != 500 {
		t.Errorf("panic: %+v", got)
	}

	// A watch is written down when it begins and when it ends.
	ctx, cancel := context.WithCancel(c.ctx)
	w, err := c.clientset("application/json").CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{TimeoutSeconds: new(int64)})
	if err != nil {
		t.Fatal(err)
	}
	got = sink.take(auditv1.StageResponseStarted, auditv1.StageResponseComplete)
	if len(got) != 1 || got[0].Stage != auditv1.StageResponseStarted || got[0].Verb != "watch" || got[0].ResponseStatus.Code != 200 {
		t.Errorf("watch: %+v", got)
	}
	cancel()
	for range w.ResultChan() {
	}
	if code, _ := c.do("GET", "/api/v1/namespaces/default/pods/none/log", ""); code != 503 {
		t.Error(code)
	}
	started := 0
	for _, e := range sink.take(auditv1.StageResponseStarted) {
		if e.ObjectRef.Subresource == "log" && e.ResponseStatus.Code == 503 && e.ResponseStatus.Reason == metav1.StatusReasonServiceUnavailable {
			started++
		}
	}
	if started != 1 {
		t.Errorf("a long request that fails began %d times", started)
	}
}
