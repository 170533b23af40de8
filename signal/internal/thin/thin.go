// Package thin makes TCP bear loss on connections that carry little at a time.
//
// A lost segment is sent again after about the round trip and 200 ms; every
// further time the system waits twice as long, which is right for who fills a
// link, and makes a handshake of a few hundred bytes wait for seconds on a bad
// one.
package thin

import (
	"net"
	"syscall"
)

// Set asks the system not to double its waits for c while only a few segments
// are under way (tcp(7), and "thin streams" in Linux' documentation), where it
// can. What is not a connection of the system's is left alone.
func Set(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := sc.SyscallConn(); err == nil {
		set(raw)
	}
}
