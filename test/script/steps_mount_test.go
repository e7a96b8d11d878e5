package script

import (
	"os/exec"

	"github.com/rogpeppe/go-internal/testscript"
)

// unmount DIR: takes a mount of the script away when it ends.
func unmount(ts *testscript.TestScript, neg bool, args []string) {
	dir := args[0]
	ts.Defer(func() { _ = exec.Command("umount", "--lazy", dir).Run() })
}
