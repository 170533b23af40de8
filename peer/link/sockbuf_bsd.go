//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package link

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBuffer gives the size of a socket's receive buffer, in bytes. The BSDs refuse
// a size over their limit instead of granting the limit, so smaller ones are tried.
func receiveBuffer(raw syscall.RawConn) int {
	var n int
	_ = raw.Control(func(fd uintptr) {
		for size := socketBuffer / 2; size >= 256<<10; size /= 2 {
			if n, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); n >= size {
				return
			}
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, size)
		}
		n, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return n
}
