package script

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// kubectl ARGS...: the real kubectl that is built in.
func kubectl(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("sagong", append([]string{"kubectl"}, args...)...)
	if (err == nil) == neg {
		ts.Fatalf("kubectl %s: err = %v", strings.Join(args, " "), err)
	}
}

// retry PATTERN COMMAND...: runs a command until its output matches, for states
// that no command can wait for. With !, until it no longer matches.
func retry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] retry PATTERN COMMAND...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	command := args[1:]
	if command[0] == "kubectl" {
		command = append([]string{"sagong"}, command...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := output(ts, command)
		if want.MatchString(out) != neg {
			fmt.Fprint(ts.Stdout(), out)
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%q: waited in vain; last error %v, last output:\n%s", args[0], err, out)
		case <-tick.C:
		}
	}
}

// setenv VAR COMMAND...: puts what a command prints into a variable.
func setenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: setenv VAR COMMAND...")
	}
	command := args[1:]
	if command[0] == "kubectl" {
		command = append([]string{"sagong"}, command...)
	}
	out, err := output(ts, command)
	if err != nil {
		ts.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	ts.Setenv(args[0], strings.TrimSpace(out))
}

// state POD JSON: the pod's status holds these fields with these values (deep,
// each list by position).
func state(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: state NAMESPACE POD FILE")
	}
	var want any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &want))
	deadline := time.Now().Add(3 * time.Minute)
	for {
		out, err := output(ts, []string{"sagong", "kubectl", "-n", args[0], "get", "pod", args[1], "-o", "jsonpath={.status}"})
		var got any
		if err == nil {
			err = json.Unmarshal([]byte(out), &got)
		}
		var missing string
		if err == nil {
			missing = lacks("status", got, want)
		}
		if (err == nil && missing == "") != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v %s\n%s", err, missing, out)
		}
	}
}

// lacks names the first thing of want that got has not.
func lacks(path string, got, want any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: %v is no object", path, got)
		}
		for k, v := range w {
			if m := lacks(path+"."+k, g[k], v); m != "" {
				return m
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s: %v has not %d items", path, got, len(w))
		}
		for i, v := range w {
			if m := lacks(fmt.Sprintf("%s[%d]", path, i), g[i], v); m != "" {
				return m
			}
		}
	case string:
		s, ok := got.(string)
		if pattern, found := strings.CutPrefix(w, "~"); found && ok && regexp.MustCompile(pattern).MatchString(s) {
			return ""
		}
		if s != w {
			return fmt.Sprintf("%s: %q is not %q", path, got, w)
		}
	default:
		if got != want {
			return fmt.Sprintf("%s: %v is not %v", path, got, want)
		}
	}
	return ""
}

// output runs a command aside: the script's own stdout stays what it is.
func output(ts *testscript.TestScript, command []string) (string, error) {
	cmd := command0(ts, command)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, k := range []string{"PATH", "SAGONG_NAME", "SAGONG_DATA_DIR", "SAGONG_RUN_DIR", "HOME", "KUBECONFIG", "KUBECTL_KUBERC", "SAGONG_NODE_PORTS", "EDITOR", "KUBE_EDITOR"} {
		if v := ts.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return append(env, "TERM=xterm", "TMPDIR="+os.TempDir())
}
