package script

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/bcrypt"
)

// registry VAR USER PASSWORD: starts a real registry on loopback that asks for
// these credentials, and puts its address into VAR.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: registry VAR USER PASSWORD")
	}
	dir := ts.MkAbs("registry")
	ts.Check(os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	hash, err := bcrypt.GenerateFromPassword([]byte(args[2]), bcrypt.MinCost)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, "htpasswd"), fmt.Appendf(nil, "%s:%s\n", args[1], hash), 0o600))
	for tries := 1; ; tries++ { // somebody else may take the port first
		addr, err := serveRegistry(ts, dir)
		if err == nil {
			ts.Setenv(args[0], addr)
			return
		}
		if tries == 3 {
			ts.Fatalf("the registry does not answer: %v", err)
		}
	}
}

// serveRegistry starts a registry on a port that was free a moment ago.
func serveRegistry(ts *testscript.TestScript, dir string) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	addr = l.Addr().String()
	ts.Check(l.Close())
	config := filepath.Join(dir, "config.yml")
	ts.Check(os.WriteFile(config, fmt.Appendf(nil, `version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q, secret: none}
auth: {htpasswd: {realm: test, path: %q}}
`, filepath.Join(dir, "data"), addr, filepath.Join(dir, "htpasswd")), 0o600))
	cmd := command0(ts, []string{"docker-registry", "serve", config})
	log, err := os.Create(filepath.Join(dir, "log"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait(); log.Close() }()
	ts.Defer(func() { _ = cmd.Process.Kill(); <-ended })
	limit := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, _, err = fetch("http://" + addr + "/v2/"); err == nil {
			return addr, nil
		}
		select {
		case <-tick.C:
			continue
		case <-ended:
		case <-limit:
		}
		text, _ := os.ReadFile(filepath.Join(dir, "log"))
		return "", fmt.Errorf("%w\n%s", err, text)
	}
}
