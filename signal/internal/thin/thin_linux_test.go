package thin_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pairterm/pairterm/signal/internal/thin"
)

func TestSet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for name, c := range map[string]net.Conn{"dialed": dialed, "accepted": accepted} {
		thin.Set(c)
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if cerr := raw.Control(func(fd uintptr) {
			got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS)
		}); cerr != nil || err != nil || got != 1 {
			t.Errorf("%s: %d, %v, %v", name, got, cerr, err)
		}
	}
	// Nothing to do, and nothing done.
	a, b := net.Pipe()
	thin.Set(a)
	a.Close()
	b.Close()
}
