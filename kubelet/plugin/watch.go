// Package plugin finds the plugins that others run on the node: each puts a
// socket into one directory, says there what it is, and is told whether it was
// taken on. Drivers of devices come this way; what is to be done with a plugin
// is its type's handler's.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Info is what a plugin says of itself.
type Info struct {
	Name     string
	Endpoint string   // absolute path of the socket that serves it
	Versions []string // of the API that it serves
}

// Handler takes on plugins of one type. Its methods may be called at the same
// time for different sockets; for one socket Register comes before Deregister.
type Handler interface {
	// Register takes a plugin on. An error is told to the plugin, and it is
	// asked again later.
	Register(ctx context.Context, i Info) error
	// Deregister lets go of what Register took on: its socket is gone.
	Deregister(i Info)
}

// How long a plugin that could not be taken on waits, and how long it has to
// answer.
const (
	firstWait = 100 * time.Millisecond
	mostWait  = 2 * time.Minute
	patience  = 10 * time.Second
)

// Watcher follows the directory of sockets.
type Watcher struct {
	Dir      string
	Handlers map[string]Handler // by type of plugin
	Log      *slog.Logger

	sockets map[string]*socket // of Run's goroutine
	wg      sync.WaitGroup
}

type socket struct {
	stop context.CancelFunc
	done chan struct{}
}

// Run makes the directory and takes on what is there and what comes, until ctx
// ends. Then all are let go.
func (w *Watcher) Run(ctx context.Context) error {
	if err := os.MkdirAll(w.Dir, 0o750); err != nil {
		return fmt.Errorf("cannot make the directory of plugins: %w", err)
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("cannot watch for plugins: %w", err)
	}
	defer notify.Close()
	w.sockets = map[string]*socket{}
	defer w.wg.Wait()
	if err := w.walk(ctx, notify, w.Dir); err != nil {
		return fmt.Errorf("cannot watch for plugins: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-notify.Errors:
			w.Log.Warn("cannot watch for plugins", "err", err)
		case e := <-notify.Events:
			switch {
			case e.Has(fsnotify.Create):
				if err := w.walk(ctx, notify, e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					w.Log.Warn("cannot look at a plugin", "path", e.Name, "err", err)
				}
			case e.Has(fsnotify.Remove), e.Has(fsnotify.Rename):
				w.gone(e.Name)
			}
		}
	}
}

// walk watches a directory and those in it, and begins with each socket.
func (w *Watcher) walk(ctx context.Context, notify *fsnotify.Watcher, path string) error {
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return notify.Add(path)
		case d.Type()&fs.ModeSocket != 0:
			w.gone(path) // one that was there was replaced
			ctx, stop := context.WithCancel(ctx)
			s := &socket{stop, make(chan struct{})}
			w.sockets[path] = s
			w.wg.Go(func() {
				defer close(s.done)
				w.serve(ctx, path)
			})
		}
		return nil
	})
}

func (w *Watcher) gone(path string) {
	if s := w.sockets[path]; s != nil {
		delete(w.sockets, path)
		s.stop()
		<-s.done
	}
}

// serve keeps the plugin of a socket until ctx ends.
func (w *Watcher) serve(ctx context.Context, path string) {
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		handler, info, err := w.take(ctx, path)
		if err == nil {
			w.Log.Info("plugin registered", "name", info.Name, "endpoint", info.Endpoint)
			<-ctx.Done()
			handler.Deregister(info)
			w.Log.Info("plugin gone", "name", info.Name, "endpoint", info.Endpoint)
			return
		}
		if ctx.Err() != nil {
			return
		}
		w.Log.Warn("cannot register plugin, trying again", "socket", path, "err", err, "in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// take asks a plugin what it is, has its handler take it on, and tells it.
func (w *Watcher) take(ctx context.Context, path string) (Handler, Info, error) {
	conn, err := Dial(path)
	if err != nil {
		return nil, Info{}, err
	}
	defer conn.Close()
	c := registration.NewRegistrationClient(conn)
	asked, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said, err := c.GetInfo(asked, &registration.InfoRequest{})
	if err != nil {
		return nil, Info{}, fmt.Errorf("failed to get plugin info using RPC GetInfo at socket %s: %w", path, err)
	}
	info := Info{said.Name, said.Endpoint, said.SupportedVersions}
	if info.Endpoint == "" {
		info.Endpoint = path
	}
	handler := w.Handlers[said.Type]
	if handler == nil {
		err = fmt.Errorf("no handler registered for plugin type: %s at socket %s", said.Type, path)
	} else {
		err = handler.Register(ctx, info)
	}
	status := &registration.RegistrationStatus{PluginRegistered: err == nil}
	if err != nil {
		status.Error = err.Error()
	}
	told, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, tell := c.NotifyRegistrationStatus(told, status); tell != nil && err == nil {
		handler.Deregister(info)
		err = fmt.Errorf("failed to send registration status at socket %s: %w", path, tell)
	}
	return handler, info, err
}

// Dial opens a connection to a socket.
func Dial(path string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", path, err)
	}
	return conn, nil
}
