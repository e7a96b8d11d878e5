package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// measureBuild builds the program with an empty build cache.
func measureBuild(ctx context.Context, b *bench, runs int) ([][]float64, error) {
	if b.linkFlags == "" {
		return nil, errors.New("the flags of the build are unknown; run 'make bench-build'")
	}
	var minutes, size []float64
	for range runs {
		dir, err := os.MkdirTemp(b.root, "build-")
		if err != nil {
			return nil, err
		}
		out := filepath.Join(dir, "sagong")
		args := append([]string{"build"}, strings.Fields(b.flags)...)
		cmd := exec.CommandContext(ctx, "go", append(args, "-ldflags", b.linkFlags, "-o", out, "./cmd/sagong")...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOCACHE="+filepath.Join(dir, "cache"))
		begin := time.Now()
		said := make(chan []byte, 1)
		go func() {
			text, e := cmd.CombinedOutput()
			err = e
			said <- text
		}()
		var text []byte
		for tick := time.NewTicker(time.Second); text == nil; {
			select {
			case text = <-said:
				tick.Stop()
				text = append(text, '\n')
			case <-tick.C:
				b.say("build: %.0f s", time.Since(begin).Seconds())
			}
		}
		took := time.Since(begin)
		if err != nil {
			return nil, fmt.Errorf("cannot build: %w\n%s", err, text)
		}
		info, err := os.Stat(out)
		if err != nil {
			return nil, err
		}
		minutes, size = append(minutes, took.Minutes()), append(size, float64(info.Size())/1e6)
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	return [][]float64{minutes, size}, nil
}
