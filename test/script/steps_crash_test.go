package script

import "github.com/rogpeppe/go-internal/testscript"

// crashLoop is written with the crash script.
func crashLoop(ts *testscript.TestScript, neg bool, args []string) {}
