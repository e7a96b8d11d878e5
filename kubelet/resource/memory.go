package resource

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is the machine's memory in bytes.
type Memory struct{ Total, Free, Available, Swap int64 }

// ReadMemory looks at the machine's memory.
func ReadMemory() (Memory, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return Memory{}, fmt.Errorf("cannot read the machine's memory: %w", err)
	}
	defer f.Close()
	var m Memory
	for sc := bufio.NewScanner(f); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			m.Total = n << 10
		case "MemFree:":
			m.Free = n << 10
		case "MemAvailable:":
			m.Available = n << 10
		case "SwapTotal:":
			m.Swap = n << 10
		}
	}
	if m.Total == 0 {
		return m, fmt.Errorf("cannot read the machine's memory: no MemTotal in /proc/meminfo")
	}
	return m, nil
}
