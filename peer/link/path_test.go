package link_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
)

// only passes descriptions and those candidates for which f holds.
func only(f func(link.Candidate) bool) func(link.Message) []link.Message {
	return func(m link.Message) []link.Message {
		if c, ok := m.(link.Candidate); ok && !f(c) {
			return nil
		}
		return []link.Message{m}
	}
}

func none(link.Candidate) bool { return false }

func TestNoAnswer(t *testing.T) {
	cfg := loopback()
	cfg.Timeouts.Path = 50 * time.Millisecond
	s, _ := newSignalers()
	if _, err := newTransport(t, cfg).Dial(context.Background(), s); !errors.Is(err, link.ErrNoAnswer) || errors.Is(err, link.ErrNoPath) {
		t.Errorf("dialing: %v", err)
	}
	_, s = newSignalers()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := newTransport(t, loopback()).Accept(ctx, s); !errors.Is(err, link.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accepting: %v", err)
	}
}

// When no packet gets through, both ends say so, with what was tried.
func TestNoPath(t *testing.T) {
	hole := listenLoopback(t) // takes packets and never answers
	defer hole.Close()
	for _, ended := range []string{"timeout", "context"} {
		t.Run(ended, func(t *testing.T) {
			cfg := loopback()
			cfg.Timeouts.Path = time.Second
			ctx := context.Background()
			if ended == "context" {
				cfg.Timeouts.Path = patience
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Second)
				defer cancel()
			}
			guest, host := newTransport(t, cfg), newTransport(t, cfg)
			a, b := newSignalers()
			blackhole := func(m link.Message) []link.Message {
				if c, ok := m.(link.Candidate); ok {
					bad := c
					bad.Addr = netip.MustParseAddrPort("169.254.169.254:80")
					c.Addr = udpAddr(hole)
					return []link.Message{bad, c}
				}
				return []link.Message{m}
			}
			a.filter, b.filter = blackhole, blackhole
			var errs [2]error
			var wg sync.WaitGroup
			wg.Go(func() { _, errs[0] = guest.Dial(ctx, a) })
			wg.Go(func() { _, errs[1] = host.Accept(ctx, b) })
			wg.Wait()
			for _, err := range errs {
				var pe *link.PathError
				if !errors.As(err, &pe) || !errors.Is(err, link.ErrNoPath) || errors.Is(err, context.DeadlineExceeded) != (ended == "context") {
					t.Fatalf("%v", err)
				}
				if len(pe.Local) == 0 || len(pe.Tried) == 0 || pe.Refused == 0 || pe.Elapsed <= 0 {
					t.Errorf("%+v", pe)
				}
				for _, tried := range pe.Tried {
					if tried.Candidate.Addr != udpAddr(hole) || tried.Sent == 0 || tried.Received != 0 {
						t.Errorf("tried %+v", tried)
					}
				}
				for _, want := range []string{"no direct path", "none answered", "refused"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not say %q", err, want)
					}
				}
			}
		})
	}
}

// One end learns no candidate at all, as behind a symmetric filter: the other's checks
// make the path.
func TestOneSidedCandidates(t *testing.T) {
	for _, who := range []string{"guest", "host"} {
		t.Run("none for the "+who, func(t *testing.T) {
			a, b := newSignalers()
			if who == "guest" {
				b.filter = only(none)
			} else {
				a.filter = only(none)
			}
			l1, l2, err := connectOver(t, newTransport(t, loopback()), newTransport(t, loopback()), a, b)
			if err != nil {
				t.Fatal(err)
			}
			blind := map[string]*link.Link{"guest": l1, "host": l2}[who]
			if got := blind.Path().RemoteType; got != link.CandidatePrflx {
				t.Errorf("remote type %v", got)
			}
		})
	}
}

// Signaling that ends once the descriptions and a candidate are through does not matter.
func TestSignalingLost(t *testing.T) {
	a, b := newSignalers()
	host := newTransport(t, loopback())
	broken := &breaking{Signaler: b, after: 2}
	if _, _, err := connectOver(t, newTransport(t, loopback()), host, a, broken); err != nil {
		t.Error(err)
	}

	a, b = newSignalers()
	close(b.in)
	if _, err := host.Accept(context.Background(), &signaler{in: b.in, out: make(chan []byte, 100)}); !errors.Is(err, link.ErrSignaling) {
		t.Errorf("broken from the start: %v", err)
	}
	_ = a
	if _, err := host.Accept(context.Background(), &breaking{Signaler: b, after: 0}); !errors.Is(err, link.ErrSignaling) {
		t.Errorf("broken for sending from the start: %v", err)
	}
}

// breaking fails every Send after the first few.
type breaking struct {
	link.Signaler
	after int
}

func (s *breaking) Send(ctx context.Context, m link.Message) error {
	if s.after--; s.after < 0 {
		return errors.New("the server is gone")
	}
	return s.Signaler.Send(ctx, m)
}

// A NAT gives one end another address while the link is up: the other follows, without
// signaling, and the same link goes on.
func TestFollow(t *testing.T) {
	cfg := loopback()
	cfg.Timeouts.Keepalive = 50 * time.Millisecond
	guest, host := newTransport(t, cfg), newTransport(t, cfg)
	nat := newNATBox(t)
	a, b := newSignalers()
	a.filter = only(none) // the host cannot know where the guest is
	b.filter = func(m link.Message) []link.Message {
		c, ok := m.(link.Candidate)
		if !ok {
			return []link.Message{m}
		}
		if !c.Addr.Addr().Is4() {
			return nil
		}
		nat.start(c.Addr)
		c.Addr = udpAddr(nat.inside)
		return []link.Message{c}
	}
	l1, l2, err := connectOver(t, guest, host, a, b)
	if err != nil {
		t.Fatal(err)
	}
	for i, move := range []struct {
		who  string
		do   func(testing.TB) netip.AddrPort
		stay *link.Link // the end that has to follow
		gone *link.Link
	}{
		{"guest", nat.moveGuest, l2, l1},
		{"host", nat.moveHost, l1, l2},
		{"guest", nat.moveGuest, l2, l1},
		{"host", nat.moveHost, l1, l2},
	} {
		now := move.do(t)
		begin := time.Now()
		for move.stay.Path().Remote != now {
			select {
			case <-move.stay.PathChanged():
			case <-move.stay.Done():
				t.Fatal("link lost:", move.stay.Err())
			case <-time.After(patience):
				t.Fatalf("move %d: still at %v, the %s is at %v", i, move.stay.Path().Remote, move.who, now)
			}
		}
		t.Logf("the %s moved and was followed after %v", move.who, time.Since(begin))
		send(t, move.gone.Control(), "I have moved")
		if got := recv(t, move.stay.Control()); got != "I have moved" {
			t.Error(got)
		}
		send(t, move.stay.Sync(), "welcome back")
		if got := recv(t, move.gone.Sync()); got != "welcome back" {
			t.Error(got)
		}
	}
}

// stunServer answers Binding requests with an address of the test's.
type stunServer struct {
	conn   *net.UDPConn
	mapped netip.AddrPort
	// answer, if set, makes the datagrams that come back instead.
	answer func(question []byte) [][]byte
	asked  chan netip.AddrPort
	done   chan struct{}
}

func newSTUNServer(t testing.TB, mapped string) *stunServer {
	t.Helper()
	s := &stunServer{conn: listenLoopback(t), asked: make(chan netip.AddrPort, 100), done: make(chan struct{})}
	if mapped != "" {
		s.mapped = netip.MustParseAddrPort(mapped)
	}
	t.Cleanup(func() { _ = s.conn.Close(); <-s.done })
	return s
}

func (s *stunServer) String() string { return udpAddr(s.conn).String() }

func (s *stunServer) start() {
	go func() {
		defer close(s.done)
		buf := make([]byte, 1500)
		for {
			n, from, err := s.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			answer := s.answer
			if answer == nil {
				answer = func(q []byte) [][]byte { return [][]byte{stunAnswer(q, s.mapped)} }
			}
			for _, a := range answer(buf[:n]) {
				_, _ = s.conn.WriteToUDPAddrPort(a, from)
			}
			s.asked <- from
		}
	}()
}

// stunAnswer makes a Binding success for a question.
func stunAnswer(question []byte, mapped netip.AddrPort) []byte {
	b := []byte{0x01, 0x01, 0, 12}
	b = append(b, question[4:20]...)
	b = append(b, 0x00, 0x20, 0, 8, 0, 1)
	b = binary.BigEndian.AppendUint16(b, mapped.Port()^0x2112)
	ip := mapped.Addr().As4()
	for i := range ip {
		b = append(b, ip[i]^question[4+i])
	}
	return b
}

// What a STUN server tells is offered to the peer; one that is dead costs no time.
func TestServerReflexive(t *testing.T) {
	good, dead := newSTUNServer(t, "203.0.113.7:4711"), newSTUNServer(t, "")
	dead.answer = func([]byte) [][]byte { return nil }
	good.start()
	dead.start()
	cfg := loopback()
	cfg.STUN = []string{good.String(), "stun:" + dead.String()}
	a, b := newSignalers()
	var seen []link.Candidate
	hold := make(chan struct{})
	var once sync.Once
	a.filter = func(m link.Message) []link.Message {
		if c, ok := m.(link.Candidate); ok {
			seen = append(seen, c)
			if c.Type != link.CandidateSrflx {
				return nil // no path before the answer
			}
			once.Do(func() { close(hold) })
			c.Addr = netip.MustParseAddrPort("127.0.0.1:9")
		}
		return []link.Message{m}
	}
	b.filter = func(m link.Message) []link.Message {
		if _, ok := m.(link.Candidate); ok {
			<-hold
		}
		return []link.Message{m}
	}
	begin := time.Now()
	if _, _, err := connectOver(t, newTransport(t, cfg), newTransport(t, loopback()), a, b); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("waited %v for a dead server", took)
	}
	if !slices.ContainsFunc(seen, func(c link.Candidate) bool {
		return c.Type == link.CandidateSrflx && c.Addr.String() == "203.0.113.7:4711"
	}) {
		t.Errorf("offered %v", seen)
	}
}

func TestMappings(t *testing.T) {
	one, two, dead := newSTUNServer(t, "203.0.113.7:1"), newSTUNServer(t, "203.0.113.7:2"), newSTUNServer(t, "")
	dead.answer = func(q []byte) [][]byte {
		other := slices.Clone(q)
		other[19]++ // not the transaction
		return [][]byte{stunAnswer(other, netip.MustParseAddrPort("192.0.2.66:6")), {1, 2, 3}}
	}
	cfg := loopback()
	for _, s := range []*stunServer{one, two, dead} {
		s.start()
		cfg.STUN = append(cfg.STUN, s.String())
	}
	tr := newTransport(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for range 3 { // enough of the server that never answers right
			<-dead.asked
		}
		cancel()
	}()
	got, err := tr.Mappings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range got {
		if m.Err == nil {
			if m.RTT <= 0 {
				t.Errorf("%+v", m)
			}
			found[m.Server] = m.Mapped.String()
		}
	}
	want := map[string]string{one.String(): "203.0.113.7:1", two.String(): "203.0.113.7:2"}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", found, want)
	}
	addrs, err := tr.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if asker := <-one.asked; asker.Port() != addrs[0].Port() {
		t.Errorf("asked from port %d, links are accepted on %d", asker.Port(), addrs[0].Port())
	}
}

// With UDP blocked, a TCP connection does.
func TestTCP(t *testing.T) {
	cfg := loopback()
	cfg.TCP = true
	guest, host := newTransport(t, cfg), newTransport(t, cfg)
	tcp := func(c link.Candidate) bool { return c.Transport == link.CandidateTCP && c.Addr.Addr().Is4() }
	a, b := newSignalers()
	a.filter, b.filter = only(tcp), only(tcp)
	l1, l2, err := connectOver(t, guest, host, a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*link.Link{l1, l2} {
		if got := l.Path().Network; got != "tcp4" {
			t.Errorf("path %v", l.Path())
		}
	}
	for i := range 300 {
		send(t, l2.Control(), strings.Repeat("x", 1000+i))
	}
	for i := range 300 {
		if got := recv(t, l1.Control()); len(got) != 1000+i {
			t.Fatalf("message %d has %d bytes", i, len(got))
		}
	}
	send(t, l1.Sync(), "key")
	if got := recv(t, l2.Sync()); got != "key" {
		t.Error(got)
	}
	if err := l1.Close(); err != nil {
		t.Fatal(err)
	}
	waitDone(t, l2)
}
