package compose

import (
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sagong/config"
	"sagong/lib/progress"
	"sagong/lib/reload"
)

// openServer opens a server without a node that serves nobody.
func openServer(t *testing.T, change func(*config.Config)) *server {
	t.Helper()
	c := config.Defaults()
	c.DataDir, c.RunDir, c.NoAgent, c.NodeName, c.Listen, c.AuditLog = t.TempDir(), t.TempDir(), true, "n", "127.0.0.1:0", "off"
	if change != nil {
		change(&c)
	}
	c.Complete("n", netip.MustParseAddr("127.0.0.1"))
	s := &server{cfg: c, log: slog.New(slog.DiscardHandler), steps: progress.NewReporter(io.Discard, time.Now)}
	t.Cleanup(s.close)
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	configHead = "apiVersion: apiserver.config.k8s.io/v1\nkind: "
	issuer     = "{issuer: {url: https://%s.example.org, audiences: [a]}, claimMappings: {username: {claim: sub, prefix: ''}}}"
)

func TestFilesThatChange(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hook := file("hook.kubeconfig", "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: https://127.0.0.1:1}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a\n")
	webhook := ", {type: Webhook, name: hook, webhook: {timeout: 1ms, failurePolicy: Deny, subjectAccessReviewVersion: v1, matchConditionSubjectAccessReviewVersion: v1, connectionInfo: {type: KubeConfigFile, kubeConfigFile: " + hook + "}}}"
	key := func(name string) string {
		return configHead + "EncryptionConfiguration\nresources: [{resources: [" + name + "], providers: [{aescbc: {keys: [{name: a, secret: MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=}]}}, {identity: {}}]}]\n"
	}
	s := openServer(t, func(c *config.Config) {
		c.AuthenticationConfig = file("authn", configHead+"AuthenticationConfiguration\njwt: ["+strings.ReplaceAll(issuer, "%s", "one")+"]\n")
		c.AuthorizationConfig = file("authz", configHead+"AuthorizationConfiguration\nauthorizers: [{type: AlwaysDeny, name: deny}]\n")
		c.EncryptionProviderConfig, c.EncryptionReload = file("seal", key("secrets")), true
	})
	by := map[string]*reload.File{}
	for _, f := range s.files {
		by[filepath.Base(f.Path)] = f
		if data, err := os.ReadFile(f.Path); err != nil || string(data) != string(f.Known) {
			t.Errorf("%s is not known: %v", f.Path, err)
		}
	}
	change := func(name, text string, ok bool) {
		t.Helper()
		sort := map[string]string{"authn": "authentication", "authz": "authorization", "seal": "encryption"}[name]
		status := map[bool]string{true: "success", false: "failure"}[ok]
		m := s.reloads[sort]
		before := testutil.ToFloat64(m.total.WithLabelValues(status, m.server))
		by[name].Changed(t.Context(), []byte(text), nil)
		if n := testutil.ToFloat64(m.total.WithLabelValues(status, m.server)); n != before+1 {
			t.Errorf("%s: a file that changed is no %s", name, status)
		}
		if in := testutil.ToFloat64(m.info.WithLabelValues(m.server, hash([]byte(text)))); (in == 1) != ok {
			t.Errorf("%s: the configuration in force is not shown", name)
		}
	}
	decide := func() authorizer.Decision {
		d, _, _ := s.api.Authorizer.Authorize(t.Context(), authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "x"}, Verb: "get", Path: "/x"})
		return d
	}
	if decide() != authorizer.DecisionNoOpinion {
		t.Error("everything is not denied")
	}
	authz := configHead + "AuthorizationConfiguration\nauthorizers: [{type: AlwaysDeny, name: deny}"
	change("authz", authz+", {type: AlwaysAllow, name: allow}]", false)
	change("authz", authz+webhook+"]", true)
	if decide() != authorizer.DecisionDeny {
		t.Error("the webhook, which cannot be reached, does not deny")
	}
	change("authz", "nonsense", false)
	if decide() != authorizer.DecisionDeny {
		t.Error("a file that cannot be used changed something")
	}
	change("authz", authz+"]", true)

	authn := configHead + "AuthenticationConfiguration\njwt: ["
	change("authn", authn+"{issuer: {url: http://x}}]", false)
	change("authn", authn+strings.ReplaceAll(issuer, "%s", "two")+"]", true)

	if !s.cipher.Covers("/registry/secrets/a/b") || s.cipher.Covers("/registry/configmaps/a/b") {
		t.Error("Secrets are not covered")
	}
	change("seal", key("configmaps"), true)
	change("seal", strings.Replace(key("secrets"), "MTIzNDU2", "", 1), false) // too short a key
	if s.cipher.Covers("/registry/secrets/a/b") || !s.cipher.Covers("/registry/configmaps/a/b") {
		t.Error("the new configuration does not seal")
	}
}
