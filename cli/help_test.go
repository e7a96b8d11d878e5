package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command shows how it is used, its flags say what they do, and its examples
// name commands and flags that there are.
func TestHelp(t *testing.T) {
	var out bytes.Buffer
	root := newRoot(nil, &out, &out)
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := c.CommandPath()
		if c.Name() == "kubectl" { // which is kubectl's own
			return
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: says %q, examples %q", path, c.Short, c.Example)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s is not explained", path, f.Name)
			}
		})
		for line := range strings.Lines(c.Example) {
			_, line, found := strings.Cut(line, "sagong ")
			if !found {
				continue
			}
			line, _, _ = strings.Cut(strings.TrimSpace(line), "   ") // what follows explains
			words := strings.Fields(line)
			meant, rest, err := newRoot(nil, &out, &out).Find(words)
			if err != nil {
				t.Errorf("%s: example %q: %v", path, line, err)
				continue
			}
			if meant.Name() == "kubectl" {
				continue
			}
			if err := meant.ParseFlags(rest); err != nil {
				t.Errorf("%s: example %q: %v", path, line, err)
			} else if err := meant.ValidateArgs(meant.Flags().Args()); err != nil {
				t.Errorf("%s: example %q: %v", path, line, err)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// Who types something wrong is told where it is explained.
func TestWrongWordsPointToHelp(t *testing.T) {
	for args, want := range map[string]string{
		"upp":            "(see 'sagong --help')",
		"image pull":     "(see 'sagong image pull --help')",
		"image pulll a":  "(see 'sagong image --help')",
		"status x":       "(see 'sagong status --help')",
		"up --nodes x":   "(see 'sagong up --help')",
		"token revoke":   "(see 'sagong token revoke --help')",
		"simulate nodse": "(see 'sagong simulate --help')",
	} {
		var out bytes.Buffer
		root := newRoot(strings.NewReader(""), &out, &out)
		root.SetArgs(strings.Fields(args))
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("sagong %s: %v", args, err)
		}
	}
}
