package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sagong/store"
)

// killDir in the environment makes the test binary the writer of TestKill.
const killDir = "SAGONG_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		writeUntilKilled(dir)
		return
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

func killOptions(dir string) store.Options {
	return store.Options{Dir: dir, SnapshotBytes: 1 << 20, HistoryBytes: 1 << 20, LazySync: 5 * time.Millisecond, Cipher: killCipher}
}

// killCipher seals what the first four writers write.
var killCipher = &turning{covers: func(key string) bool { return key < "/r/4" }}

// writeUntilKilled writes from several goroutines, each with keys of its own,
// and prints a line before each write and one for each acknowledgement.
func writeUntilKilled(dir string) {
	s, err := store.Open(killOptions(dir))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	go func() { // a new key again and again
		for n := byte(1); ; n++ {
			killCipher.by.Store(uint32(n))
			if err := s.Rewrite(context.Background()); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
		}
	}()
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(n)))
			for i := 0; ; i++ {
				op := store.Op{Key: fmt.Sprintf("/r/%d/%d", n, rnd.IntN(50)), Expect: store.AnyRev}
				op.Value = fmt.Appendf(nil, "%d-%d-%d-%s", os.Getpid(), n, i, strings.Repeat("x", rnd.IntN(3000)))
				op.Delete = rnd.IntN(5) == 0
				op.Lazy = n == 7
				mu.Lock()
				fmt.Fprintf(out, "try %d %s %t\n", n, op.Key, op.Delete)
				out.Flush()
				mu.Unlock()
				r := s.Commit(context.Background(), []store.Op{op})[0]
				switch {
				case r.Err == nil:
				case errors.Is(r.Err, store.ErrNotFound):
					continue
				default:
					fmt.Println("error", r.Err)
					os.Exit(1)
				}
				value, _, _ := strings.Cut(string(op.Value), "x")
				if op.Delete {
					value = "-"
				}
				mu.Lock()
				fmt.Fprintf(out, "%d %s %s %t\n", r.Rev, op.Key, value, op.Lazy)
				out.Flush()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKill kills a writing server again and again at any moment: what it has
// acknowledged is there, and no revision is ever given twice.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	type ack struct {
		rev   store.Rev
		value string
	}
	want := map[string]ack{}        // newest acknowledged state of each durable key
	given := map[store.Rev]string{} // all revisions ever acknowledged
	acks, lost := 0, 0
	for round := range 12 {
		tried := map[string]string{} // by writer: the key that it was deleting when it was killed
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// By the number of acknowledgements, not by time: it is always at work.
		stop := 1 + rand.IntN(1500)
		in := bufio.NewReader(pipe)
		killed := false
		for n := 0; ; {
			line, err := in.ReadString('\n')
			if err == io.EOF || err != nil {
				break // a last line that is cut was still acknowledged to nobody
			}
			var rev store.Rev
			var key, value, writer string
			var lazy, deleting bool
			if _, err := fmt.Sscanf(line, "try %s %s %t", &writer, &key, &deleting); err == nil {
				if delete(tried, writer); deleting {
					tried[writer] = key
				}
				continue
			}
			if _, err := fmt.Sscan(line, &rev, &key, &value, &lazy); err != nil {
				t.Fatalf("round %d: the writer says %q", round, line)
			}
			if other, ok := given[rev]; ok {
				t.Errorf("revision %d was given to %s and again to %s", rev, other, key)
			}
			given[rev] = key
			if acks++; !lazy {
				want[key] = ack{rev, value}
			}
			if n++; n > stop && !killed {
				killed = true
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		// A delete under way may have happened.
		deleting := slices.Collect(maps.Values(tried))

		s, err := store.Open(killOptions(dir))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for key, a := range want {
			r, at, err := s.Get(t.Context(), key, 0)
			switch {
			case at < a.rev:
				t.Errorf("round %d: the store is at revision %d, %s was acknowledged at %d", round, at, key, a.rev)
			case err == nil && r.ModRev < a.rev, errors.Is(err, store.ErrNotFound) && a.value != "-" && !slices.Contains(deleting, key):
				lost++
				t.Errorf("round %d: %s is %v, %v; acknowledged was %+v", round, key, r, err, a)
			case err == nil && r.ModRev == a.rev && !strings.HasPrefix(string(r.Value()), a.value):
				t.Errorf("round %d: %s has the wrong value at revision %d", round, key, a.rev)
			}
			// A later write that was not acknowledged may have happened.
			if err == nil && r.ModRev > a.rev {
				value, _, _ := strings.Cut(string(r.Value()), "x")
				want[key] = ack{r.ModRev, value}
			} else if err != nil {
				want[key] = ack{at, "-"}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("12 kills, %d acknowledgements, %d lost", acks, lost)
}
