package script

import "golang.org/x/sys/unix"

func unixPidfd(pid int) (int, error) { return unix.PidfdOpen(pid, 0) }

// waitPidfd returns once the process has ended.
func waitPidfd(fd int) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return
		}
	}
}
