package simulate

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestDistributions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for text, mean := range map[string]time.Duration{
		"2s": 2 * time.Second, "1s..3s": 2 * time.Second, "normal:2s,500ms": 2 * time.Second, "exp:2s": 2 * time.Second, "0s": 0, "1s..1s": time.Second,
	} {
		d, err := ParseDistribution(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseDistribution(d.String())
		if err != nil || again != d {
			t.Errorf("%q is written as %q, which is %+v, %v", text, d, again, err)
		}
		sum := time.Duration(0)
		for range 10_000 {
			x := d.Draw(r)
			if x < 0 {
				t.Fatalf("%q yields %v", text, x)
			}
			sum += x
		}
		if got := sum / 10_000; got < mean*9/10 || got > mean*11/10 {
			t.Errorf("%q has the mean %v", text, got)
		}
	}
	for _, text := range []string{"", "2", "-1s", "3s..1s", "1s..", "normal:2s", "exp:", "exp:-1s", "normal:1s,", "90000h..99999h"} {
		if d, err := ParseDistribution(text); err == nil {
			t.Errorf("%q is read as %v", text, d)
		}
	}
}

func FuzzParseDistribution(f *testing.F) {
	for _, s := range []string{"2s", "1s..3s", "normal:2s,500ms", "exp:2s", "..", "normal:,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDistribution(text)
		if err != nil {
			return
		}
		if x := d.Draw(rand.New(rand.NewPCG(1, 2))); x < 0 || x > longest {
			t.Fatalf("%q yields %v", text, x)
		}
		if again, err := ParseDistribution(d.String()); err != nil || again != d {
			t.Fatalf("%q is written as %q", text, d)
		}
	})
}

func FuzzParseTaint(f *testing.F) {
	f.Add("gpu=yes:NoSchedule")
	f.Add("a:NoExecute")
	f.Fuzz(func(t *testing.T, text string) {
		if taint, err := ParseTaint(text); err == nil && taint.ToString() == "" {
			t.Fatalf("%q is read as %+v", text, taint)
		}
	})
}
