package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/google/pprof/profile"
)

// profiled takes a processor profile of the server for two seconds from now, when
// the command was asked for one. The func it returns waits for it.
func (c *cluster) profiled() (wait func() error) {
	if c.b.profile == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		data, err := c.api.CoreV1().RESTClient().Get().AbsPath("/debug/pprof/profile").Param("seconds", "2").DoRaw(context.Background())
		if err != nil {
			done <- fmt.Errorf("cannot profile the server: %w", err)
			return
		}
		p, err := profile.ParseData(data)
		if err == nil {
			c.b.profiles = append(c.b.profiles, p)
		}
		done <- err
	}()
	return func() error { return <-done }
}

// writeProfile merges what was profiled into the file that was asked for, in the
// form in which the compiler takes it; nothing in it names the machine.
func (b *bench) writeProfile() error {
	if len(b.profiles) == 0 {
		return nil
	}
	p, err := profile.Merge(b.profiles)
	if err != nil {
		return err
	}
	for _, m := range p.Mapping {
		m.File = "sagong"
	}
	for _, s := range p.Sample {
		s.Label, s.NumLabel, s.NumUnit = nil, nil, nil
	}
	p.Comments = nil
	var out bytes.Buffer
	if err := p.Compact().Write(&out); err != nil {
		return err
	}
	return os.WriteFile(b.profile, out.Bytes(), 0o644)
}
