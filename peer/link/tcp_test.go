package link

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
)

func newTCPMux(t *testing.T) *tcpMux {
	t.Helper()
	nw, err := newNetwork(nil, LoopbackOnly)
	if err != nil {
		t.Fatal(err)
	}
	quiet, counters := slog.New(slog.DiscardHandler), new(muxCounters)
	socks, _, err := nw.listenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	udp := newMux(socks, nw.primary, PathsDirect.admits, counters, quiet)
	m, err := nw.listenTCP(0, udp, true, quiet, counters)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := udp.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func dialTCPMux(t *testing.T, m *tcpMux) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", m.listeners[ipv4].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func writeAll(t *testing.T, c net.Conn, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if _, err := c.Write(frame(f)); err != nil {
			t.Fatal(err)
		}
	}
}

// closedByPeer waits for the end of a connection.
func closedByPeer(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if n, err := c.Read(make([]byte, 10)); n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("not closed: read %d bytes, %v", n, err)
	}
}

func TestTCPMux(t *testing.T) {
	m := newTCPMux(t)
	pc, err := m.GetConnByUfrag("aaaa", false, net.IPv4(127, 0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.GetConnByUfrag("aaaa", false, net.IPv4(127, 0, 0, 1)); err != nil || again != pc {
		t.Errorf("a second conn for one link, %v", err)
	}
	c := dialTCPMux(t, m)
	// What would kill pion, and what nobody speaks here, is left out.
	writeAll(t, c, check("aaaa"), ghsa34rh()["empty"], []byte{0x80, 1, 2, 3}, []byte{}, record("data"))
	buf := make([]byte, 1500)
	for _, want := range []string{string(check("aaaa")), string(record("data"))} {
		n, from, err := pc.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want || from.String() != c.LocalAddr().String() {
			t.Fatalf("got %q from %v, %v", buf[:n], from, err)
		}
	}
	if got := m.counters.malformed.Load(); got != 1 {
		t.Errorf("%d malformed", got)
	}
	if _, err := pc.WriteTo([]byte("answer"), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf[:8]); err != nil || string(buf[:8]) != "\x00\x06answer" {
		t.Errorf("got %q, %v", buf[:8], err)
	}
	if _, err := pc.WriteTo([]byte("x"), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing to nobody: %v", err)
	}
	m.RemoveConnByUfrag("aaaa")
	closedByPeer(t, c)
	if _, _, err := pc.ReadFrom(buf); !errors.Is(err, io.EOF) {
		t.Errorf("reading after close: %v", err)
	}
}

func TestTCPStrangers(t *testing.T) {
	m := newTCPMux(t)
	if _, err := m.GetConnByUfrag("aaaa", false, net.IPv4(127, 0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	for name, first := range map[string][]byte{
		"unknown link":     frame(check("bbbb")),
		"an answer":        frame(stunMessage(0x0101, stunAttr(attrUsername, []byte("aaaa:x")...))),
		"no user name":     frame(stunMessage(0x0001)),
		"killer":           frame(ghsa34rh()["request"]),
		"HTTP":             []byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" + string(make([]byte, 20000))),
		"data first":       frame(record("x")),
		"nothing at first": frame(nil),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTCPMux(t, m)
			if _, err := c.Write(first); err != nil {
				t.Fatal(err)
			}
			closedByPeer(t, c)
		})
	}
}

// One link may not hold all connections, nor may strangers.
func TestTCPIsBounded(t *testing.T) {
	m := newTCPMux(t)
	pc, err := m.GetConnByUfrag("aaaa", false, net.IPv4(127, 0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	for range maxTCPPerLink {
		writeAll(t, dialTCPMux(t, m), check("aaaa"))
		if _, _, err := pc.ReadFrom(buf); err != nil {
			t.Fatal(err)
		}
	}
	late := dialTCPMux(t, m)
	writeAll(t, late, check("aaaa"))
	closedByPeer(t, late)

	for range maxTCPStrangers {
		m.strangers <- struct{}{} // as if so many were silent
	}
	late = dialTCPMux(t, m)
	closedByPeer(t, late)
}
