package native

import (
	"context"
	"fmt"
	"os"

	"sagong/runtime"
)

// Attach connects a client to a container's own streams.
func (r *Runtime) Attach(ctx context.Context, id string, o runtime.AttachOptions) error {
	c, err := r.running(id)
	if err != nil {
		return fmt.Errorf("cannot attach: %w", err)
	}
	if err := r.attach(ctx, c, o); err != nil {
		return fmt.Errorf("cannot attach to container %s: %w", id, err)
	}
	return nil
}

func (r *Runtime) attach(ctx context.Context, c *container, o runtime.AttachOptions) error {
	if o.Stdin != nil && !c.spec.Stdin {
		return fmt.Errorf("the container has no standard input")
	}
	q := newRequest(reqAttach, c.spec.ID)
	io := newStreams()
	defer io.close()
	var err error
	if c.spec.TTY {
		q.Out, err = io.output(q, o.Stdout)
	} else {
		err = io.bothOutputs(q, o.Stdout, o.Stderr)
	}
	if err != nil {
		return err
	}
	if o.Stdin != nil {
		q.Flags |= streamStdin
	}
	conn, err := dialShim(ctx, c.sandbox.run)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.send(q); err != nil {
		return ctxErr(ctx, err)
	}
	io.handedOver()
	for {
		a, err := conn.receive()
		if err != nil {
			return ctxErr(ctx, err)
		}
		switch a.Type {
		case replyError:
			return a.err()
		case replyStarted:
			if a.FD >= 0 {
				w, err := pollable(os.NewFile(uintptr(a.FD), "stdin"))
				if err != nil {
					return err
				}
				io.mine = append(io.mine, w)
				io.copyInput(w, o.Stdin)
				if c.spec.StdinOnce && !c.spec.TTY {
					// The shim closes its end when this connection ends.
					last := len(io.inputs) - 1
					in := io.inputs[last]
					io.inputs[last] = func() {
						in()
						end := newRequest(reqStdinEnd, c.spec.ID)
						_, _ = ask(ctx, c.sandbox.run, end)
					}
				}
			}
			io.start(nil)
			if o.Resize != nil && c.spec.TTY {
				io.wg.Add(1)
				go func() {
					defer io.wg.Done()
					r.forwardResize(ctx, c, o.Resize, io.stop)
				}()
			}
		case replyExit:
			io.drain()
			return nil
		}
	}
}

func (r *Runtime) forwardResize(ctx context.Context, c *container, sizes <-chan runtime.TerminalSize, stop <-chan struct{}) {
	for {
		select {
		case z, ok := <-sizes:
			if !ok {
				return
			}
			_ = r.ResizeTTY(ctx, c.spec.ID, z)
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
	}
}
