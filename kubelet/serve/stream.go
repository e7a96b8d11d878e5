package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"

	"sagong/kubelet/probe"
	"sagong/runtime"
)

// streamCreation is how long a client may take to open its streams.
const streamCreation = 30 * time.Second

// session connects one client to a process.
type session struct {
	h  *Handler
	id string
}

// ExecInContainer implements the library's Executor.
func (s session) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errw io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, timeout time.Duration) error {
	code, err := s.h.Runtime.Exec(ctx, s.id, runtime.ExecOptions{
		Args: cmd, TTY: tty, Stdin: in, Stdout: out, Stderr: errw, Resize: sizes(ctx, resize), Timeout: timeout,
	})
	var se *runtime.StartError
	switch {
	case errors.As(err, &se):
		code = 126
		if se.NotFound {
			code = 127
		}
		if errw != nil {
			fmt.Fprintln(errw, err)
		}
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d: %w", code, err), Code: code}
	case err != nil:
		return err
	case code != 0:
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

// AttachContainer implements the library's Attacher.
func (s session) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errw io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return s.h.Runtime.Attach(ctx, s.id, runtime.AttachOptions{Stdin: in, Stdout: out, Stderr: errw, Resize: sizes(ctx, resize)})
}

// sizes passes window sizes on until ctx ends.
func sizes(ctx context.Context, in <-chan remotecommand.TerminalSize) <-chan runtime.TerminalSize {
	if in == nil {
		return nil
	}
	out := make(chan runtime.TerminalSize)
	go func() {
		defer close(out)
		for {
			select {
			case s, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- runtime.TerminalSize{Width: s.Width, Height: s.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (h *Handler) running(r *http.Request) (*corev1.Pod, Container, error) {
	p, err := h.find(r)
	if err != nil {
		return nil, Container{}, err
	}
	c, err := h.Node.Container(p, r.PathValue("container"), false)
	if err != nil || !c.Running {
		return nil, c, apierrors.NewBadRequest(fmt.Sprintf("container not found (%q)", r.PathValue("container")))
	}
	return p, c, nil
}

func (h *Handler) exec(w http.ResponseWriter, r *http.Request) {
	p, c, err := h.running(r)
	if err != nil {
		fail(w, err)
		return
	}
	o, err := options(r)
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	cmd := r.Form["command"]
	if len(cmd) == 0 {
		fail(w, apierrors.NewBadRequest("you must specify at least one command for the container"))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := session{h: h, id: c.ID}
	if wsstream.IsWebSocketRequest(r) {
		h.webSocket(ctx, cancel, w, r, o, func(ctx context.Context, in io.Reader, out, errw io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
			return s.ExecInContainer(ctx, "", "", "", cmd, in, out, errw, o.TTY, resize, 0)
		})
		return
	}
	remotecommand.ServeExec(w, r.WithContext(ctx), s, p.Name, string(p.UID), r.PathValue("container"), cmd, o, h.StreamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

func (h *Handler) attach(w http.ResponseWriter, r *http.Request) {
	p, c, err := h.running(r)
	if err != nil {
		fail(w, err)
		return
	}
	o, err := options(r)
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	if o.Stdin && !c.Stdin {
		fail(w, apierrors.NewBadRequest(fmt.Sprintf("container %s has no standard input: set stdin: true in its definition", r.PathValue("container"))))
		return
	}
	o.TTY = c.TTY
	if o.TTY {
		o.Stderr = false
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := session{h: h, id: c.ID}
	if wsstream.IsWebSocketRequest(r) {
		h.webSocket(ctx, cancel, w, r, o, func(ctx context.Context, in io.Reader, out, errw io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
			return s.AttachContainer(ctx, "", "", "", in, out, errw, o.TTY, resize)
		})
		return
	}
	remotecommand.ServeAttach(w, r.WithContext(ctx), s, p.Name, string(p.UID), r.PathValue("container"), o, h.StreamIdle, streamCreation, remotecommand.SupportedStreamingProtocols)
}

// options reads which streams a client wants, by the kubelet's names for them
// or by those of the API.
func options(r *http.Request) (*remotecommand.Options, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	for api, own := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if on, err := strconv.ParseBool(r.Form.Get(api)); err == nil && on {
			r.Form.Set(own, "1")
		}
	}
	return remotecommand.NewOptions(r)
}

// The channels of the WebSocket protocols.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelError
	channelResize
)

// webSocket serves the versions of the channel protocol over WebSocket; the
// fifth lets a client close its standard input.
func (h *Handler) webSocket(ctx context.Context, cancel context.CancelFunc, w http.ResponseWriter, r *http.Request, o *remotecommand.Options, run func(ctx context.Context, in io.Reader, out, errw io.WriteCloser, resize <-chan remotecommand.TerminalSize) error) {
	use := func(on bool, t wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return t
		}
		return wsstream.IgnoreChannel
	}
	channels := []wsstream.ChannelType{
		channelStdin: use(o.Stdin, wsstream.ReadChannel), channelStdout: use(o.Stdout, wsstream.WriteChannel),
		channelStderr: use(o.Stderr, wsstream.WriteChannel), channelError: wsstream.WriteChannel, channelResize: wsstream.ReadChannel,
	}
	binary, text := wsstream.ChannelProtocolConfig{Binary: true, Channels: channels}, wsstream.ChannelProtocolConfig{Channels: channels}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		"": binary, wsstream.ChannelWebSocketProtocol: binary, wsstream.Base64ChannelWebSocketProtocol: text,
		"v4." + wsstream.ChannelWebSocketProtocol: binary, "v4." + wsstream.Base64ChannelWebSocketProtocol: text,
		remotecommand.StreamProtocolV5Name: binary,
	})
	conn.SetIdleTimeout(h.StreamIdle)
	protocol, streams, err := conn.Open(w, r)
	if err != nil {
		h.Log.Debug("cannot upgrade to WebSocket", "err", err)
		return
	}
	defer conn.Close()
	// An empty message tells the client that the connection stands.
	switch {
	case o.Stdout:
		streams[channelStdout].Write([]byte{})
	case o.Stderr:
		streams[channelStderr].Write([]byte{})
	default:
		streams[channelError].Write([]byte{})
	}
	resize := make(chan remotecommand.TerminalSize)
	go func() {
		defer close(resize)
		// The resize stream ends with the connection: so does the process.
		defer cancel()
		for dec := json.NewDecoder(streams[channelResize]); ; {
			var s remotecommand.TerminalSize
			if dec.Decode(&s) != nil {
				return
			}
			select {
			case resize <- s:
			case <-ctx.Done():
				return
			}
		}
	}()
	var in io.Reader
	var out, errw io.WriteCloser
	if o.Stdin {
		in = streams[channelStdin]
	}
	if o.Stdout {
		out = streams[channelStdout]
	}
	if o.Stderr {
		errw = streams[channelStderr]
	}
	err = run(ctx, in, out, errw, resize)
	streams[channelError].Write(outcome(protocol, err))
}

// outcome says on the error channel how a command ended: as a Status from the
// fourth version of the protocol on, before that as text or nothing.
func outcome(protocol string, err error) []byte {
	if len(protocol) < 2 || protocol[0] != 'v' || protocol[1] < '4' {
		if err == nil {
			return nil
		}
		return []byte(err.Error())
	}
	s := metav1.Status{Status: metav1.StatusSuccess}
	if err != nil {
		s = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError, Message: "Internal error occurred: " + err.Error(),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Message: err.Error()}}}}
		if ee := (utilexec.ExitError)(nil); errors.As(err, &ee) && ee.Exited() {
			s.Code, s.Reason, s.Message = 0, remotecommand.NonZeroExitCodeReason, "command terminated with non-zero exit code: "+err.Error()
			s.Details = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(ee.ExitStatus())}}}
		}
	}
	data, _ := json.Marshal(s)
	return data
}

// run executes a command without streams and returns its output.
func (h *Handler) run(w http.ResponseWriter, r *http.Request) {
	_, c, err := h.running(r)
	if err != nil {
		fail(w, err)
		return
	}
	if err := r.ParseForm(); err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	cmd := r.Form["cmd"]
	if len(cmd) == 0 {
		cmd = r.Form["command"]
	}
	if len(cmd) == 0 {
		fail(w, apierrors.NewBadRequest("cmd is missing"))
		return
	}
	out := probe.NewOutput(16 << 20)
	code, err := h.Runtime.Exec(r.Context(), c.ID, runtime.ExecOptions{Args: cmd, Stdout: out, Stderr: out})
	if err == nil && code != 0 {
		err = fmt.Errorf("command '%s' exited with %d: %s", cmd, code, out.String())
	}
	if err != nil {
		fail(w, err)
		return
	}
	io.WriteString(w, out.String())
}
