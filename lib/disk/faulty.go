package disk

import "io"

// Op names an operation of a file system that Faulty may fail.
type Op string

// The operations.
const (
	OpMkdir   Op = "mkdir"
	OpReadDir Op = "readdir"
	OpOpen    Op = "open"
	OpCreate  Op = "create"
	OpRename  Op = "rename"
	OpRemove  Op = "remove"
	OpSyncDir Op = "syncdir"
	OpLock    Op = "lock"
	OpRead    Op = "read"
	OpWrite   Op = "write"
	OpSync    Op = "sync"
)

// Faulty is a file system that asks Fail before each operation and returns its
// error instead of doing it. A failed write writes half, as a full disk does.
type Faulty struct {
	FS   FS
	Fail func(op Op, path string) error
}

var _ FS = (*Faulty)(nil)

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(path string) error {
	if err := f.Fail(OpMkdir, path); err != nil {
		return err
	}
	return f.FS.MkdirAll(path)
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(path string) ([]string, error) {
	if err := f.Fail(OpReadDir, path); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(path)
}

// Open implements FS.
func (f *Faulty) Open(path string) (File, error) { return f.open(OpOpen, path, f.FS.Open) }

// Create implements FS.
func (f *Faulty) Create(path string) (File, error) { return f.open(OpCreate, path, f.FS.Create) }

func (f *Faulty) open(op Op, path string, open func(string) (File, error)) (File, error) {
	if err := f.Fail(op, path); err != nil {
		return nil, err
	}
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, fs: f, path: path}, nil
}

// Rename implements FS.
func (f *Faulty) Rename(oldPath, newPath string) error {
	if err := f.Fail(OpRename, newPath); err != nil {
		return err
	}
	return f.FS.Rename(oldPath, newPath)
}

// Remove implements FS.
func (f *Faulty) Remove(path string) error {
	if err := f.Fail(OpRemove, path); err != nil {
		return err
	}
	return f.FS.Remove(path)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(path string) error {
	if err := f.Fail(OpSyncDir, path); err != nil {
		return err
	}
	return f.FS.SyncDir(path)
}

// Lock implements FS.
func (f *Faulty) Lock(path string) (io.Closer, error) {
	if err := f.Fail(OpLock, path); err != nil {
		return nil, err
	}
	return f.FS.Lock(path)
}

type faultyFile struct {
	File
	fs   *Faulty
	path string
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.fs.Fail(OpRead, f.path); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.fs.Fail(OpWrite, f.path); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.fs.Fail(OpSync, f.path); err != nil {
		return err
	}
	return f.File.Sync()
}
