package netlink

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Subscription receives what the kernel announces to groups of listeners.
type Subscription struct {
	file *os.File
	buf  []byte
}

// Subscribe joins the groups of a protocol, a mask such as unix.RTMGRP_LINK, in
// the network namespace of the calling thread.
func Subscribe(protocol int, groups uint32) (*Subscription, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("cannot open a netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot subscribe to netlink: %w", err)
	}
	return &Subscription{file: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, 64<<10)}, nil
}

// ErrMissed says that announcements came faster than they were read, and some
// are lost.
var ErrMissed = errors.New("netlink announcements were missed")

// Next waits for announcements and calls f for each. After ErrMissed it can be
// called again; os.ErrClosed means that Close was called.
func (s *Subscription) Next(f func(Message) error) error {
	n, err := s.file.Read(s.buf)
	if errors.Is(err, unix.ENOBUFS) {
		return ErrMissed
	}
	if err != nil {
		return fmt.Errorf("cannot read netlink announcements: %w", err)
	}
	return ParseMessages(s.buf[:n], f)
}

// Close ends the subscription and any Next.
func (s *Subscription) Close() error { return s.file.Close() }

// ParseLink reads an interface from an announcement of type unix.RTM_NEWLINK or
// RTM_DELLINK.
func ParseLink(m Message) (Link, error) { return parseLink(m.Data) }
