package hello

/*
#cgo CFLAGS: -O2 -Wall -Wextra -D_GNU_SOURCE
*/
import "C"

import (
	"fmt"
	"os"
	"path"
)

// Main runs what the C side has left to Go, if the program was called by one
// of the names under which it lies in the images: "hello" and "tar". It
// returns the exit code, and whether this process was meant at all.
func Main(args []string) (code int, mine bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch path.Base(args[0]) {
	case "hello":
		if len(args) > 1 && args[1] == "get" {
			return Get(args[2:]), true
		}
		if len(args) > 1 && args[1] == "tar" {
			return Tar(args[2:]), true
		}
		fmt.Fprintln(os.Stderr, "hello: unknown command; try: hello help")
		return 2, true
	case "tar":
		return Tar(args[1:]), true
	}
	return 0, false
}
