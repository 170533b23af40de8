package netchange

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// groups are the multicast groups of rtnetlink(7) that tell of what Notify is about.
const groups = unix.RTMGRP_LINK |
	unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
	unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE |
	1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)

// subscription is a netlink socket.
type subscription struct{ *os.File }

// subscribe asks the kernel to tell of changes in the network namespace of this thread.
func subscribe() (*subscription, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &subscription{os.NewFile(uintptr(fd), "netlink")}, nil
}

// wait returns when something has changed, or why it will not know any more. What the
// message says does not matter, nor that there were too many of them (ENOBUFS).
func (s *subscription) wait() error {
	var message [1]byte // the rest of it is dropped
	if _, err := s.Read(message[:]); err != nil && !errors.Is(err, syscall.ENOBUFS) {
		return err
	}
	return nil
}

// drain drops the messages that are waiting, and reports whether there were any.
func (s *subscription) drain() (any bool) {
	conn, err := s.SyscallConn()
	if err != nil {
		return false
	}
	var message [1]byte
	_ = conn.Read(func(fd uintptr) bool {
		for {
			_, err := unix.Read(int(fd), message[:])
			switch err {
			case nil, unix.ENOBUFS:
				any = true
			case unix.EINTR:
			default:
				return true
			}
		}
	})
	return any
}
