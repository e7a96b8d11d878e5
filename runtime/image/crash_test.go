package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("IMAGE_TEST_PULL_INTO"); dir != "" {
		if err := pullForever(dir, strings.Split(os.Getenv("IMAGE_TEST_REFS"), " ")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// pullForever pulls and removes images until it is killed.
func pullForever(dir string, refs []string) error {
	s, err := Open(Options{Dir: dir})
	if err != nil {
		return err
	}
	ctx := context.Background()
	fmt.Println("ready")
	for n := 0; ; n++ {
		if _, err := s.Pull(ctx, refs[n%len(refs)], PullOptions{}); err != nil {
			return err
		}
		if n%len(refs) == len(refs)-1 {
			for _, ref := range refs[1:] {
				if err := s.Remove(ctx, ref); err != nil {
					return err
				}
			}
		}
	}
}

// A process that pulls is killed at any instant; what is there afterwards is
// whole, and nothing is left that belongs to nobody.
func TestKilledAtAnyInstant(t *testing.T) {
	r := registry(t, registryOptions{})
	var refs []string
	want := map[string][]string{}
	base := archive(t, reg("base", noise(1, 200_000)), dir("d", 0o755), reg("d/x", "x"))
	for n := range 3 {
		top := archive(t, reg("top", noise(uint64(n+2), 400_000)), reg("d/.wh.x", ""), hardlink("link", "top"))
		ref := fmt.Sprintf("%s/app:%d", r.host, n)
		r.push(t, fmt.Sprintf("app:%d", n), testImage(t, compression.GZip, base, top))
		refs = append(refs, ref)
		clean := open(t, t.TempDir())
		for _, l := range pull(t, clean, ref).LowerDirs() {
			want[ref] = append(want[ref], digestLines(tree(t, l))...)
		}
	}
	dir := t.TempDir()
	for round := range 12 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "IMAGE_TEST_PULL_INTO="+dir, "IMAGE_TEST_REFS="+strings.Join(refs, " "))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("the child says %q, %v", line, err)
		}
		// The instant is what this test is about, so here is its one wait.
		time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
		cmd.Process.Kill()
		if err := cmd.Wait(); err == nil || errs.Len() > 0 {
			t.Fatalf("the child ended by itself: %v %s", err, errs.String())
		}
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, pattern := range []string{"tmp-*", "*/tmp-*", "*/*/tmp-*"} {
			if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
				t.Errorf("round %d: left behind: %v", round, left)
			}
		}
		for _, ref := range refs {
			i, err := s.Get(ref)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			var got []string
			for _, l := range i.LowerDirs() {
				got = append(got, digestLines(tree(t, l))...)
			}
			if !slices.Equal(got, want[ref]) {
				t.Errorf("round %d: %s is damaged", round, ref)
			}
		}
		if _, err := s.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir)
	for _, ref := range refs {
		pull(t, s, ref)
	}
}
