package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sagong/runtime"
)

// dirs are the directories of a runtime.
//
//	DATA/runtime/pods/<uid>/pod.json            the sandbox
//	DATA/runtime/pods/<uid>/c/<id>/config.json  a container
//	DATA/runtime/pods/<uid>/c/<id>/{upper,work} its writable layer
//	RUN/runtime/key                             opens what of config.json is sealed
//	RUN/runtime/p/<uid>/{shim,shim.sock,ns/net}   the keeper of the sandbox
//	RUN/runtime/p/<uid>/c/<id>/{start,exit}       written by the shim
type dirs struct{ data, run string }

func newDirs(data, run string) dirs {
	return dirs{filepath.Join(data, "runtime"), filepath.Join(run, "runtime")}
}

// mountRun puts a memory file system on the run directory, where it is not on
// one. What is in there means nothing after a restart of the machine, is synced
// when a container ends, and is made and removed with every container, which
// costs a disk file system more than all the rest of a start.
func (d dirs) mountRun() error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.run, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: d.run, Err: err}
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return nil
	}
	if err := unix.Mount("sagong", d.run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=711"); err != nil {
		return fmt.Errorf("cannot mount a memory file system on %s: %w", d.run, err)
	}
	return nil
}

func (d dirs) pods() string              { return filepath.Join(d.data, "pods") }
func (d dirs) podData(uid string) string { return filepath.Join(d.data, "pods", uid) }
func (d dirs) podRun(uid string) string  { return filepath.Join(d.run, "p", uid) }
func (d dirs) containerData(uid, id string) string {
	return filepath.Join(d.data, "pods", uid, "c", id)
}
func (d dirs) containerRun(uid, id string) string { return filepath.Join(d.run, "p", uid, "c", id) }

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func checkID(what, id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%s %q must match %s", what, id, idPattern)
	}
	return nil
}

// podFile is pod.json.
type podFile struct {
	Sandbox   runtime.Sandbox
	CreatedAt time.Time
}

// containerFile is config.json.
type containerFile struct {
	// Container without its arguments and environment, which are Sealed.
	Container runtime.Container
	Sealed    []byte
	CreatedAt time.Time
}

// writeJSON writes a file. It is neither synced nor renamed into place: what is
// cut off by a crash describes something that never ran, and is removed.
func writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}

func readJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// parseFields reads lines of a name, a space and a value. The last field named
// "error" takes the rest of the file.
func parseFields(text string) map[string]string {
	m := map[string]string{}
	for text != "" {
		line, rest, _ := strings.Cut(text, "\n")
		name, value, ok := strings.Cut(line, " ")
		if ok && name == "error" {
			m[name] = strings.TrimSuffix(strings.TrimPrefix(text, "error "), "\n")
			break
		}
		if ok {
			m[name] = value
		}
		text = rest
	}
	return m
}

// process names a process for as long as the machine runs: a number alone is
// used again.
type process struct {
	PID   int
	Ticks uint64
}

// startTicks reads when a process started, or 0 when there is none or it has
// ended and is only not reaped.
func startTicks(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	return parseTicks(string(data))
}

func parseTicks(stat string) uint64 {
	// The name before may hold anything.
	i := strings.LastIndexByte(stat, ')')
	if i < 0 {
		return 0
	}
	f := strings.Fields(stat[i+1:])
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0
	}
	n, _ := strconv.ParseUint(f[19], 10, 64)
	return n
}

func (p process) alive() bool { return p.PID > 0 && p.Ticks != 0 && startTicks(p.PID) == p.Ticks }

// shimFile is the file "shim" of a sandbox.
type shimFile struct {
	process
	// Boot of the machine, and the Protocol that the shim speaks: it may be of
	// an older version of this program.
	Boot     string
	Protocol string
}

// protocol changes when the messages between server and shim do.
const protocol = "1"

func (s shimFile) String() string {
	return fmt.Sprintf("pid %d\nticks %d\nboot %s\nprotocol %s\n", s.PID, s.Ticks, s.Boot, s.Protocol)
}

func readShimFile(dir string) (shimFile, error) {
	data, err := os.ReadFile(filepath.Join(dir, "shim"))
	if err != nil {
		return shimFile{}, err
	}
	return parseShim(string(data))
}

func parseShim(text string) (shimFile, error) {
	m := parseFields(text)
	p, err := parseProcess(m)
	return shimFile{p, m["boot"], m["protocol"]}, err
}

func parseProcess(m map[string]string) (process, error) {
	pid, err1 := strconv.Atoi(m["pid"])
	ticks, err2 := strconv.ParseUint(m["ticks"], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return process{}, err
	}
	if pid <= 1 {
		return process{}, fmt.Errorf("process number %d", pid)
	}
	return process{pid, ticks}, nil
}

// startFile is the file "start" of a container.
type startFile struct {
	process
	At time.Time
}

func readStart(dir string) (startFile, error) {
	data, err := os.ReadFile(filepath.Join(dir, "start"))
	if err != nil {
		return startFile{}, err
	}
	return parseStart(string(data))
}

func parseStart(text string) (startFile, error) {
	m := parseFields(text)
	p, err := parseProcess(m)
	if err != nil {
		return startFile{}, err
	}
	at, err := parseNanos(m["started"])
	return startFile{p, at}, err
}

// exitFile is the file "exit" of a container.
type exitFile struct {
	Code, Signal      int
	OOM               uint64
	Started, Finished time.Time
	// Error is why it could not be started.
	Error string
}

func readExit(dir string) (exitFile, error) {
	data, err := os.ReadFile(filepath.Join(dir, "exit"))
	if err != nil {
		return exitFile{}, err
	}
	return parseExit(string(data))
}

func parseExit(text string) (exitFile, error) {
	m := parseFields(text)
	var e exitFile
	var errs [5]error
	e.Code, errs[0] = strconv.Atoi(m["code"])
	e.Signal, errs[1] = strconv.Atoi(m["signal"])
	e.OOM, errs[2] = strconv.ParseUint(m["oom"], 10, 64)
	e.Started, errs[3] = parseNanos(m["started"])
	e.Finished, errs[4] = parseNanos(m["finished"])
	e.Error = m["error"]
	if err := errors.Join(errs[:]...); err != nil {
		return exitFile{}, fmt.Errorf("malformed exit file: %w", err)
	}
	return e, nil
}

func parseNanos(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	return time.Unix(0, n), nil
}

// subdirs are the names of the directories in a directory, none when it does
// not exist.
func subdirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
