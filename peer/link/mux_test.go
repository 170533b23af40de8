package link

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func a4(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// fakeSocket hands the mux what the test writes to it, and records what the mux sends.
type fakeSocket struct {
	local net.UDPAddr
	in    chan fakePacket
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	sent []netip.AddrPort
}

type fakePacket struct {
	b    []byte
	from netip.AddrPort
}

func (s *fakeSocket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case p := <-s.in:
		return copy(b, p.b), p.from, nil
	case <-s.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (s *fakeSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, to)
	return len(b), nil
}

func (s *fakeSocket) LocalAddr() net.Addr { return &s.local }
func (s *fakeSocket) Close() error        { s.once.Do(func() { close(s.done) }); return nil }

// newFakeMux makes a mux whose reader is not running: the test calls inbound.
func newFakeMux(t testing.TB) (*mux, *fakeSocket) {
	t.Helper()
	s := &fakeSocket{local: net.UDPAddr{IP: net.IPv4zero, Port: 40000}, in: make(chan fakePacket), done: make(chan struct{})}
	primary := func() [families]netip.Addr { return [families]netip.Addr{netip.MustParseAddr("10.0.0.1")} }
	m := newMux([families]udpSocket{s}, primary, PathsDirect.admits, new(muxCounters), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, s
}

func getConn(t testing.TB, m *mux, ufrag string) *muxConn {
	t.Helper()
	c, err := m.GetConn(ufrag, m.GetListenAddresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	return c.(*muxConn)
}

func check(to string) []byte {
	return stunMessage(0x0001, stunAttr(attrUsername, []byte(to+":them")...))
}

func record(s string) []byte {
	return append([]byte{23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, byte(len(s))}, s...)
}

// waiting is how many datagrams wait for pion.
func waiting(c *muxConn) int {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.n
}

func TestMuxSorts(t *testing.T) {
	m, sock := newFakeMux(t)
	a, b := getConn(t, m, "aaaa"), getConn(t, m, "bbbb")
	if again := getConn(t, m, "aaaa"); again != a {
		t.Error("a second conn for one link")
	}
	alice, bob, eve := a4("192.0.2.1:1"), a4("192.0.2.2:1"), a4("192.0.2.3:1")

	m.inbound(record("too early"), alice)
	m.inbound(check("aaaa"), alice)
	m.inbound(check("bbbb"), bob)
	m.inbound(check("cccc"), eve) // no such link
	m.inbound(record("for a"), alice)
	m.inbound(record("for b"), bob)
	m.inbound(record("for nobody"), eve)
	m.inbound([]byte{0x80, 1, 2, 3}, alice) // SRTP, which nobody speaks here
	m.inbound(stunMessage(0x0101), eve)     // an answer to nothing
	m.inbound(ghsa34rh()["empty"], alice)   // from the right source
	m.inbound(ghsa34rh()["empty"], eve)     // and the wrong one
	m.inbound(stunMessage(0x0001), alice)   // a check that names nobody
	m.inbound([]byte{}, alice)

	if waiting(a) != 2 || waiting(b) != 2 {
		t.Fatalf("%d datagrams for a, %d for b, want 2 each", waiting(a), waiting(b))
	}
	buf := make([]byte, 1500)
	for _, want := range []string{string(check("aaaa")), string(record("for a"))} {
		n, from, err := a.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want || from.String() != alice.String() {
			t.Errorf("got %q from %v, %v", buf[:n], from, err)
		}
	}
	if got := m.counters.malformed.Load(); got != 2 {
		t.Errorf("%d malformed, want 2", got)
	}
	if got := m.counters.strangers.Load(); got != 7 {
		t.Errorf("%d of strangers, want 7", got)
	}

	// Strangers get no answer and leave nothing behind.
	if len(sock.sent) != 0 || len(m.routes) != 2 {
		t.Errorf("sent to %v, %d routes", sock.sent, len(m.routes))
	}
}

func TestMuxAnswersGoToWhoAsked(t *testing.T) {
	m, _ := newFakeMux(t)
	a, b, c := getConn(t, m, "aaaa"), getConn(t, m, "bbbb"), getConn(t, m, "cccc")
	far := a4("192.0.2.1:1")
	for _, conn := range []*muxConn{a, b} {
		if _, err := conn.WriteTo(check("them"), net.UDPAddrFromAddrPort(far)); err != nil {
			t.Fatal(err)
		}
	}
	m.inbound(stunMessage(0x0101, stunAttr(attrXORMappedAddress, 0, 1, 1, 2, 3, 4, 5, 6)), far)
	if waiting(a) != 1 || waiting(b) != 1 || waiting(c) != 0 {
		t.Errorf("%d, %d, %d answers, want 1, 1, 0", waiting(a), waiting(b), waiting(c))
	}
	if sent, received := m.traffic(far); sent != 2 || received != 2 {
		t.Errorf("counted %d sent, %d received", sent, received)
	}
}

// A guest that names another guest's address as its own candidate, before or after that
// guest connects, does not get the other's traffic.
func TestMuxAddressesCannotBeStolen(t *testing.T) {
	victim := a4("192.0.2.1:1")
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			m, _ := newFakeMux(t)
			good, evil := getConn(t, m, "good"), getConn(t, m, "evil")
			claim := func() {
				// The host checks the candidate that the hostile guest named …
				if _, err := evil.WriteTo(check("them"), net.UDPAddrFromAddrPort(victim)); err != nil {
					t.Fatal(err)
				}
			}
			if when == "before" {
				claim()
			}
			m.inbound(check("good"), victim)
			if when == "after" {
				claim()
			}
			before := waiting(evil)
			m.inbound(record("secret"), victim)
			// … and the guest even forges a check from there.
			m.inbound(check("evil"), victim)
			m.inbound(record("secret"), victim)
			if got := waiting(good); got != 3 {
				t.Errorf("%d datagrams for the right guest, want 3", got)
			}
			if got := waiting(evil) - before; got != 1 {
				t.Errorf("%d datagrams for the hostile guest, want its own check", got)
			}
		})
	}
}

// An address changes hands when its link is gone, or has been silent.
func TestMuxAddressIsFreedWithItsLink(t *testing.T) {
	m, _ := newFakeMux(t)
	first, second := getConn(t, m, "frst"), getConn(t, m, "scnd")
	addr := a4("192.0.2.1:1")
	m.inbound(check("frst"), addr)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	m.inbound(check("scnd"), addr)
	m.inbound(record("x"), addr)
	if waiting(second) != 2 {
		t.Errorf("%d datagrams, want 2", waiting(second))
	}
	third := getConn(t, m, "thrd")
	m.routes[addr].heard.Store(sinceEpoch() - int64(routeGrace))
	m.inbound(check("thrd"), addr)
	m.inbound(record("x"), addr)
	if waiting(third) != 2 {
		t.Errorf("after a silence %d datagrams, want 2", waiting(third))
	}
	for _, c := range []*muxConn{second, third} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.routes) != 0 || len(m.conns) != 0 {
		t.Errorf("left behind: %d routes, %d conns", len(m.routes), len(m.conns))
	}
}

// A peer that sends checks from ever new addresses, forged or not, costs a bounded
// amount.
func TestMuxBoundsNewAddresses(t *testing.T) {
	m, _ := newFakeMux(t)
	c := getConn(t, m, "aaaa")
	for i := range 5000 {
		m.inbound(check("aaaa"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1))
	}
	if got := len(m.routes); got > routeBurst+1 {
		t.Errorf("%d addresses remembered, want at most %d", got, routeBurst)
	}
	if waiting(c) > routeBurst+1 {
		t.Errorf("%d checks passed on", waiting(c))
	}
}

func TestQueueIsBounded(t *testing.T) {
	m, _ := newFakeMux(t)
	c := getConn(t, m, "aaaa")
	from := a4("192.0.2.1:1")
	m.inbound(check("aaaa"), from)
	for i := range 3 * queueLen {
		m.inbound(record(fmt.Sprint(i)), from)
	}
	if waiting(c) != queueLen {
		t.Errorf("%d wait, want %d", waiting(c), queueLen)
	}
	if got := m.counters.overflow.Load(); got != 2*queueLen+1 {
		t.Errorf("%d dropped, want %d", got, 2*queueLen+1)
	}
	// The oldest were kept, in order.
	buf := make([]byte, 1500)
	for i := range queueLen {
		n, _, err := c.ReadFrom(buf)
		want := string(check("aaaa"))
		if i > 0 {
			want = string(record(fmt.Sprint(i - 1)))
		}
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("datagram %d: %q, %v", i, buf[:n], err)
		}
	}
}

func TestMuxConnClosed(t *testing.T) {
	m, _ := newFakeMux(t)
	c := getConn(t, m, "aaaa")
	read := make(chan error)
	go func() {
		_, _, err := c.ReadFrom(make([]byte, 100))
		read <- err
	}()
	m.RemoveConnByUfrag("aaaa")
	if err := <-read; !errors.Is(err, io.EOF) {
		t.Errorf("reading: %v", err)
	}
	if _, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.GetConn("bbbb", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1)}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a conn of a closed mux: %v", err)
	}
}

func TestMuxReader(t *testing.T) {
	m, sock := newFakeMux(t)
	c := getConn(t, m, "aaaa")
	m.start()
	from := a4("[::ffff:192.0.2.1]:7")
	for _, p := range []fakePacket{
		{make([]byte, maxPacket+1), from}, // too long, dropped
		{check("aaaa"), from},
	} {
		sock.in <- p
	}
	buf := make([]byte, 1500)
	if _, got, err := c.ReadFrom(buf); err != nil || got.String() != "192.0.2.1:7" {
		t.Errorf("from %v, %v", got, err)
	}
}

func TestSilence(t *testing.T) {
	m, _ := newFakeMux(t)
	c := getConn(t, m, "aaaa")
	addr := a4("192.0.2.1:1")
	if _, heard := m.silence(addr); heard {
		t.Error("heard from an unknown address")
	}
	if _, err := c.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(addr)); err != nil {
		t.Fatal(err)
	}
	if _, heard := m.silence(addr); heard {
		t.Error("heard from an address that only was sent to")
	}
	m.inbound(check("aaaa"), addr)
	m.routes[addr].heard.Add(-int64(time.Minute))
	if d, heard := m.silence(addr); !heard || d < time.Minute {
		t.Errorf("silence %v, %t", d, heard)
	}
}

func BenchmarkMuxInbound(b *testing.B) {
	m, _ := newFakeMux(b)
	c := getConn(b, m, "aaaa")
	from := a4("192.0.2.1:1")
	m.inbound(check("aaaa"), from)
	pkt := append(record(""), make([]byte, 1200)...)
	buf := make([]byte, maxPacket)
	if _, _, err := c.ReadFrom(buf); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(pkt)))
	b.ReportAllocs()
	for b.Loop() {
		m.inbound(pkt, from)
		if _, _, err := c.ReadFrom(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMuxStranger(b *testing.B) {
	m, _ := newFakeMux(b)
	pkt, from := check("nobody00"), a4("192.0.2.1:1")
	b.ReportAllocs()
	for b.Loop() {
		m.inbound(pkt, from)
	}
}
