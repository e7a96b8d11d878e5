package netlink

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Settings changes kernel settings (sysctls) and remembers in a file what they
// were before, so that Restore can put them back, in this process or another.
// They belong to the network namespace of the calling thread.
type Settings struct {
	path string
	mu   sync.Mutex
}

// NewSettings keeps the former values in the file at path; an empty path keeps
// none.
func NewSettings(path string) *Settings { return &Settings{path: path} }

func settingFile(name string) string {
	return "/proc/sys/" + name
}

// Set gives the setting called name, such as "net/ipv4/ip_forward", a value.
func (s *Settings) Set(name, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := os.ReadFile(settingFile(name))
	if err != nil {
		return fmt.Errorf("cannot read the kernel setting %s: %w", name, err)
	}
	was := strings.TrimSpace(string(old))
	if was == value {
		return nil
	}
	if err := s.remember(name, was); err != nil {
		return err
	}
	return WriteSetting(name, value)
}

// Raise is Set for a number that may also be higher already.
func (s *Settings) Raise(name string, value int) error {
	old, err := os.ReadFile(settingFile(name))
	if err != nil {
		return fmt.Errorf("cannot read the kernel setting %s: %w", name, err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(old))); err == nil && n >= value {
		return nil
	}
	return s.Set(name, strconv.Itoa(value))
}

// WriteSetting sets a kernel setting and remembers nothing.
func WriteSetting(name, value string) error {
	if err := os.WriteFile(settingFile(name), []byte(value), 0); err != nil {
		return fmt.Errorf("cannot set the kernel setting %s to %s: %w", name, value, err)
	}
	return nil
}

// remember notes a former value, the first one only: later ones are our own.
func (s *Settings) remember(name, value string) error {
	if s.path == "" {
		return nil
	}
	known, _, err := s.read()
	if err != nil {
		return err
	}
	if _, ok := known[name]; ok {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return fmt.Errorf("cannot keep former kernel settings: %w", err)
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot keep former kernel settings: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s = %s\n", name, value)
	return errors.Join(err, f.Close())
}

func (s *Settings) read() (map[string]string, []string, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read former kernel settings: %w", err)
	}
	defer f.Close()
	known, order := map[string]string{}, []string(nil)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " = ")
		// The file may come from a crash in the middle of a line.
		if !ok || strings.Contains(name, "..") {
			continue
		}
		if _, dup := known[name]; !dup {
			order = append(order, name)
		}
		known[name] = value
	}
	return known, order, nil
}

// Restore puts back every value that Set changed and forgets them. A setting
// that is gone, with its interface, is not an error.
func (s *Settings) Restore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, order, err := s.read()
	if err != nil {
		return err
	}
	for i := len(order) - 1; i >= 0; i-- {
		if e := WriteSetting(order[i], known[order[i]]); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if e := os.Remove(s.path); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}
