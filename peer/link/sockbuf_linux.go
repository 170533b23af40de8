package link

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBuffer gives the size of a socket's receive buffer, in bytes. Where the
// process may, it goes over the system's limit first.
func receiveBuffer(raw syscall.RawConn) int {
	var n int
	_ = raw.Control(func(fd uintptr) {
		// Fails without CAP_NET_ADMIN.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
		n, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return n / 2 // Linux counts its own bookkeeping, socket(7)
}
