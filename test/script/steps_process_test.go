package script

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// command0 makes a command that runs as those of the script do.
func command0(ts *testscript.TestScript, args []string) *exec.Cmd {
	env := environment(ts)
	name := args[0]
	if !strings.Contains(name, "/") {
		for dir := range strings.SplitSeq(ts.Getenv("PATH"), ":") {
			if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode()&0o111 != 0 && !st.IsDir() {
				name = filepath.Join(dir, name)
				break
			}
		}
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Env, cmd.Dir = env, ts.MkAbs(".")
	return cmd
}

func readServerPID(ts *testscript.TestScript) int {
	data, err := os.ReadFile(filepath.Join(ts.Getenv("SAGONG_RUN_DIR"), "server.pid"))
	ts.Check(err)
	pid, err := strconv.Atoi(strings.Fields(string(data))[0])
	ts.Check(err)
	return pid
}

// serverpid VAR: puts the server's process id into a variable.
func serverPID(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strconv.Itoa(readServerPID(ts)))
}

// kill9 server: kills the server. kill9 NAMESPACE POD [CONTAINER]: kills the
// processes of a container (the first, when none is named), from outside.
func kill9(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 1 && args[0] == "server" {
		killServer(ts)
		return
	}
	pids := processesOf(ts, args)
	if len(pids) == 0 {
		ts.Fatalf("%v: no process", args)
	}
	for _, pid := range pids {
		ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	}
}

func killServer(ts *testscript.TestScript) {
	pid := readServerPID(ts)
	fd, err := unixPidfd(pid)
	ts.Check(err)
	defer syscall.Close(fd)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	waitPidfd(fd)
}

// processesOf finds a container's processes by its id, the last part of their
// control group.
func processesOf(ts *testscript.TestScript, args []string) []int {
	if len(args) < 2 {
		ts.Fatalf("usage: kill9 NAMESPACE POD [CONTAINER]")
	}
	path := "{.status.containerStatuses[0].containerID}"
	if len(args) > 2 {
		path = fmt.Sprintf(`{.status.containerStatuses[?(@.name=="%s")].containerID}`, args[2])
	}
	out, err := output(ts, []string{"sagong", "kubectl", "-n", args[0], "get", "pod", args[1], "-o", "jsonpath=" + path})
	if err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
	_, id, ok := strings.Cut(strings.TrimSpace(out), "://")
	if !ok {
		ts.Fatalf("%q is no container id", out)
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	ts.Check(err)
	var pids []int
	for _, d := range dirs {
		groups, err := os.ReadFile(filepath.Join(d, "cgroup"))
		if err == nil && bytes.Contains(groups, []byte("/"+id)) {
			pid, _ := strconv.Atoi(filepath.Base(d))
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}
