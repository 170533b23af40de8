package link

import (
	"syscall"

	"github.com/pion/transport/v2"
)

const (
	// socketBuffer is what is asked of the kernel for each socket, in bytes. Smaller
	// ones overflow during bulk transfers, and each overflow stops all channels of a
	// link for SCTP's retransmission timeout of a second: measured, 99th percentile of
	// a key's echo beside bulk 1.1 s with the usual 208 KiB, under 25 ms with this.
	socketBuffer = 4 << 20

	// SCTP's receive window, in bytes. It bounds what a peer can make us hold, so a
	// host gives the small one to guests, who send keys and pastes; a guest takes the
	// large one for bulk at long round trips, if its socket holds that much.
	smallWindow = 192 << 10
	largeWindow = 1 << 20
)

// growBuffers asks for large buffers and gives the receive buffer that was granted,
// in bytes; 0 if that cannot be found out.
func growBuffers(c transport.UDPConn) int {
	// Refusal is no error: the granted size decides the window.
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	return receiveBuffer(raw)
}
