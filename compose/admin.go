package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/pprof"
	"time"

	"sagong/config"
	"sagong/network/proxy"
	"sagong/runtime/image"
)

// ImageInfo is an image as 'sagong image list' shows it.
type ImageInfo struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
	Size  int64    `json:"size"`
}

// ImageProgress is one line of the answer to an import, pull or removal: how far
// it is, an image that is done, or the error that ended it.
type ImageProgress struct {
	Image string `json:"image,omitempty"`
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	Error string `json:"error,omitempty"`
}

// adminSocket serves the verbs that act on this machine's node: images and a
// look inside. Only root can open it, which is why it needs no other check.
type adminSocket struct {
	images  *image.Store
	cluster string
	notices func() []string
	server  *http.Server
	log     *slog.Logger
}

func startAdminSocket(c config.Config, images *image.Store, notices func() []string, log *slog.Logger) (*adminSocket, error) {
	path := agentSocket(c)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot serve the node's socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the node's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot serve the node's socket: %w", err)
	}
	a := &adminSocket{images: images, cluster: c.Name, notices: notices, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images", a.list)
	mux.HandleFunc("DELETE /images", a.remove)
	mux.HandleFunc("POST /images/import", a.importImages)
	mux.HandleFunc("POST /images/pull", a.pull)
	mux.HandleFunc("GET /images/export", a.export)
	mux.HandleFunc("GET /notices", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(a.notices()) })
	mux.HandleFunc("GET /debug/nft", func(w http.ResponseWriter, _ *http.Request) {
		if err := proxy.Dump(w, a.cluster); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /debug/stacks", func(w http.ResponseWriter, _ *http.Request) { _ = pprof.Lookup("goroutine").WriteTo(w, 1) })
	mux.HandleFunc("GET /debug/heap", func(w http.ResponseWriter, _ *http.Request) { _ = pprof.Lookup("heap").WriteTo(w, 0) })
	mux.HandleFunc("GET /debug/profile", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.URL.Query().Get("for"))
		if err == nil {
			err = pprof.StartCPUProfile(w)
		}
		if err != nil {
			http.Error(w, fmt.Sprintf("cannot profile: %v", err), http.StatusBadRequest)
			return
		}
		defer pprof.StopCPUProfile()
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
	})
	a.server = &http.Server{Handler: mux}
	go func() {
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the node's socket ended", "err", err)
		}
	}()
	return a, nil
}

func (a *adminSocket) close() { a.server.Close() }

func (a *adminSocket) list(w http.ResponseWriter, _ *http.Request) {
	all, err := a.images.List()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out := make([]ImageInfo, len(all))
	for i, im := range all {
		out[i] = ImageInfo{ID: im.ID, Names: im.RepoTags, Size: im.Size}
	}
	_ = json.NewEncoder(w).Encode(out)
}

// lines answers in lines of JSON, each sent at once.
type lines struct {
	w   http.ResponseWriter
	enc *json.Encoder
}

func newLines(w http.ResponseWriter) *lines { return &lines{w, json.NewEncoder(w)} }

func (l *lines) send(p ImageProgress) {
	_ = l.enc.Encode(p)
	if f, ok := l.w.(http.Flusher); ok {
		f.Flush()
	}
}

func (l *lines) progress(p image.Progress) {
	l.send(ImageProgress{Done: p.BytesDone, Total: p.Bytes})
}

func (l *lines) end(images []*image.Image, err error) {
	if err != nil {
		l.send(ImageProgress{Error: err.Error()})
		return
	}
	for _, im := range images {
		name := im.ID
		if len(im.RepoTags) > 0 {
			name = im.RepoTags[0]
		} else if len(im.RepoDigests) > 0 {
			name = im.RepoDigests[0]
		}
		l.send(ImageProgress{Image: name})
	}
}

func (a *adminSocket) importImages(w http.ResponseWriter, r *http.Request) {
	// The answer begins while the archive is still coming in.
	_ = http.NewResponseController(w).EnableFullDuplex()
	l := newLines(w)
	images, err := a.images.Import(r.Context(), r.Body, image.ImportOptions{Name: r.URL.Query().Get("name")})
	if err != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	l.end(images, err)
}

func (a *adminSocket) pull(w http.ResponseWriter, r *http.Request) {
	l := newLines(w)
	im, err := a.images.Pull(r.Context(), r.URL.Query().Get("name"), image.PullOptions{})
	l.end([]*image.Image{im}, err)
}

func (a *adminSocket) remove(w http.ResponseWriter, r *http.Request) {
	l := newLines(w)
	name := r.URL.Query().Get("name")
	if err := a.images.Remove(r.Context(), name); err != nil {
		l.send(ImageProgress{Error: err.Error()})
		return
	}
	l.send(ImageProgress{Image: name})
}

func (a *adminSocket) export(w http.ResponseWriter, r *http.Request) {
	names := r.URL.Query()["name"]
	// Refuse before the first byte: afterwards the status is sent.
	for _, n := range names {
		if _, err := a.images.Get(n); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
	}
	if err := a.images.Export(r.Context(), w, names...); err != nil {
		a.log.Error("cannot export images", "names", names, "err", err)
		panic(http.ErrAbortHandler) // the client must see a broken stream, not a short file
	}
}

// AskAgent sends a request to the agent of this machine's node.
func AskAgent(ctx context.Context, c config.Config, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", agentSocket(c))
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// Notices asks the node's agent what its user should know: limits that could
// not be raised, features that the kernel lacks.
func Notices(ctx context.Context, c config.Config) ([]string, error) {
	resp, err := AskAgent(ctx, c, http.MethodGet, "/notices", nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []string
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, fmt.Errorf("cannot read the node's notices: %w", err)
	}
	return all, nil
}
