package disk

import (
	"bytes"
	"io"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"sync"
)

// Memory is a file system in memory that can crash: Crash forgets all bytes
// written since a file's last Sync, and all names made, moved or removed since
// the directory's last SyncDir.
type Memory struct {
	mu      sync.Mutex
	names   map[string]*memoryInode // as programs see them
	durable map[string]*memoryInode // as a crash leaves them
	dirs    map[string]bool
	locks   map[string]bool
}

type memoryInode struct {
	data   []byte
	synced []byte
}

// NewMemory returns an empty file system with the directory "/".
func NewMemory() *Memory {
	return &Memory{
		names:   map[string]*memoryInode{},
		durable: map[string]*memoryInode{},
		dirs:    map[string]bool{"/": true},
		locks:   map[string]bool{},
	}
}

var _ FS = (*Memory)(nil)

// Crash throws away what is not durable and frees all locks. Files that are
// open must not be used any more.
func (m *Memory) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names = map[string]*memoryInode{}
	for name, ino := range m.durable {
		kept := &memoryInode{data: bytes.Clone(ino.synced), synced: bytes.Clone(ino.synced)}
		m.names[name], m.durable[name] = kept, kept
	}
	m.locks = map[string]bool{}
}

// MkdirAll implements FS. Directories are durable at once.
func (m *Memory) MkdirAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		m.dirs[p] = true
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// ReadDir implements FS.
func (m *Memory) ReadDir(path string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path = filepath.Clean(path)
	if !m.dirs[path] {
		return nil, notExist("readdir", path)
	}
	found := map[string]bool{}
	note := func(name string) {
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(path, "/")+"/"); ok && rest != "" {
			first, _, _ := strings.Cut(rest, "/")
			found[first] = true
		}
	}
	for name := range m.names {
		note(name)
	}
	for name := range m.dirs {
		note(name)
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

// Open implements FS.
func (m *Memory) Open(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ino := m.names[filepath.Clean(path)]
	if ino == nil {
		return nil, notExist("open", path)
	}
	return &memoryFile{m: m, ino: ino}, nil
}

// Create implements FS.
func (m *Memory) Create(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path = filepath.Clean(path)
	if !m.dirs[filepath.Dir(path)] {
		return nil, notExist("create", path)
	}
	ino := m.names[path]
	if ino == nil {
		ino = &memoryInode{}
		m.names[path] = ino
	}
	ino.data = nil
	return &memoryFile{m: m, ino: ino}, nil
}

// Rename implements FS.
func (m *Memory) Rename(oldPath, newPath string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldPath, newPath = filepath.Clean(oldPath), filepath.Clean(newPath)
	ino := m.names[oldPath]
	if ino == nil {
		return notExist("rename", oldPath)
	}
	delete(m.names, oldPath)
	m.names[newPath] = ino
	return nil
}

// Remove implements FS.
func (m *Memory) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	path = filepath.Clean(path)
	if m.names[path] == nil {
		return notExist("remove", path)
	}
	delete(m.names, path)
	return nil
}

// SyncDir implements FS.
func (m *Memory) SyncDir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	path = filepath.Clean(path)
	if !m.dirs[path] {
		return notExist("sync", path)
	}
	for name := range m.durable {
		if filepath.Dir(name) == path && m.names[name] == nil {
			delete(m.durable, name)
		}
	}
	for name, ino := range m.names {
		if filepath.Dir(name) == path {
			m.durable[name] = ino
		}
	}
	return nil
}

// Lock implements FS.
func (m *Memory) Lock(path string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path = filepath.Clean(path)
	if m.locks[path] {
		return nil, &fs.PathError{Op: "lock", Path: path, Err: ErrLocked}
	}
	m.locks[path] = true
	return memoryLock{m, path}, nil
}

type memoryLock struct {
	m    *Memory
	path string
}

func (l memoryLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.path)
	return nil
}

type memoryFile struct {
	m   *Memory
	ino *memoryInode
	at  int
}

func (f *memoryFile) Read(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.at >= len(f.ino.data) {
		return 0, io.EOF
	}
	n := copy(p, f.ino.data[f.at:])
	f.at += n
	return n, nil
}

func (f *memoryFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.ino.data = append(f.ino.data, p...)
	return len(p), nil
}

func (f *memoryFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.ino.synced = bytes.Clone(f.ino.data)
	return nil
}

func (f *memoryFile) Close() error { return nil }

func notExist(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}
