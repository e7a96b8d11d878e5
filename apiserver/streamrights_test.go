package apiserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/apiserver"
)

// byHeader authenticates by the User header.
func byHeader(r *http.Request) (*authenticator.Response, bool, error) {
	name := r.Header.Get("User")
	if name == "" {
		return nil, false, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, true, nil
}

// Who may read all of a pod may not therefore run commands in it: a stream that is
// opened by GET needs the right to create as well.
func TestStreamsNeedCreate(t *testing.T) {
	var all rules
	for _, sub := range []string{"exec", "attach", "portforward", "log"} {
		all = append(all, "reader get pods/"+sub+" default", "both get pods/"+sub+" default", "both create pods/"+sub+" default", "writer create pods/"+sub+" default")
	}
	c := withAgents(t, func(o *apiserver.Options) { o.Authorizer, o.Authenticator = all, authenticator.RequestFunc(byHeader) })
	u, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"exec?container=a&command=sh&stdout=true", "attach?container=a&stdout=true", "portforward?ports=80"} {
		name, _, _ := strings.Cut(sub, "?")
		for _, x := range []struct {
			who, method string
			code        int
		}{{"reader", "GET", 403}, {"both", "GET", 101}, {"both", "POST", 101}, {"writer", "POST", 101}, {"writer", "GET", 403}, {"reader", "POST", 403}} {
			conn, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "%s /api/v1/namespaces/default/pods/local/%s HTTP/1.1\r\nHost: x\r\nUser: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", x.method, sub, x.who)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body := ""
			if resp.StatusCode != 101 {
				b, _ := io.ReadAll(io.LimitReader(resp.Body, resp.ContentLength))
				body = string(b)
			}
			conn.Close()
			want := fmt.Sprintf(`cannot create resource \"pods/%s\" in API group \"\" in the namespace \"default\"`, name)
			if resp.StatusCode != x.code || x.who == "reader" && !strings.Contains(body, want) {
				t.Errorf("%s %s %s: %d %s, want %d", x.who, x.method, sub, resp.StatusCode, body, x.code)
			}
		}
	}
	if code, body := c.do("GET", "/api/v1/namespaces/default/pods/local/log?container=a", "", "User", "reader"); code != 200 {
		t.Errorf("logs: %d %s", code, body)
	}
}

// An HTTP/2 connection of somebody unknown ends with the request.
func TestStrangersKeepNoConnection(t *testing.T) {
	c := start(t, func(o *apiserver.Options) {
		o.Authenticator = authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
			if r.Header.Get("User") == "anonymous" {
				return &authenticator.Response{User: &user.DefaultInfo{Name: user.Anonymous, Groups: []string{user.AllUnauthenticated}}}, true, nil
			}
			return byHeader(r)
		})
	})
	for who, x := range map[string]struct {
		protocol int
		ends     bool
	}{"": {2, true}, "anonymous": {2, true}, "jane": {2, false}} {
		r := httptest.NewRequest("GET", "/version", nil)
		r.ProtoMajor = x.protocol
		if who != "" {
			r.Header.Set("User", who)
		}
		w := httptest.NewRecorder()
		c.server.ServeHTTP(w, r)
		if (w.Header().Get("Connection") == "close") != x.ends {
			t.Errorf("%q: %d %v", who, w.Code, w.Header())
		}
		r.ProtoMajor, w = 1, httptest.NewRecorder()
		c.server.ServeHTTP(w, r)
		if w.Header().Get("Connection") != "" {
			t.Errorf("%q, HTTP/1: %v", who, w.Header())
		}
	}
}

type failing struct{}

func (failing) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionNoOpinion, "", errors.New("broken")
}

type reasons struct{ texts chan string }

func (r reasons) Write(e *auditv1.Event) {
	if e.Stage == auditv1.StageResponseComplete {
		r.texts <- e.Annotations["authorization.k8s.io/decision"] + "|" + e.Annotations["authorization.k8s.io/reason"]
	}
}

// A decision that could not be made is written down as such.
func TestAuditOfAFailedDecision(t *testing.T) {
	trail := reasons{make(chan string, 1)}
	c := start(t, func(o *apiserver.Options) {
		o.Authorizer, o.Audit, o.Authenticator = failing{}, everything(trail), authenticator.RequestFunc(byHeader)
	})
	if code, body := c.do("GET", "/api/v1/pods", "", "User", "jane"); code != 500 || !strings.Contains(body, "broken") {
		t.Errorf("%d %s", code, body)
	}
	if got := <-trail.texts; got != "|internal error" {
		t.Error(got)
	}
}
