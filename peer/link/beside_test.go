package link_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/peer/link"
)

func TestBetter(t *testing.T) {
	path := func(network, remote string, typ link.CandidateType, ms int) link.PathInfo {
		return link.PathInfo{Network: network, Remote: netip.MustParseAddrPort(remote), RemoteType: typ, RTT: time.Duration(ms) * time.Millisecond}
	}
	var (
		none   link.PathInfo
		relay  = path("udp4", "203.0.113.1:1", link.CandidateRelay, 5)
		tcp    = path("tcp4", "203.0.113.1:1", link.CandidateHost, 5)
		public = path("udp4", "203.0.113.1:1", link.CandidateSrflx, 20)
		v6     = path("udp6", "[2001:db8::1]:1", link.CandidateHost, 12)
		near   = path("udp4", "203.0.113.1:1", link.CandidateSrflx, 3)
		lan    = path("udp4", "192.168.1.2:1", link.CandidateHost, 3)
		vpn    = path("udp4", "10.8.0.1:1", link.CandidateHost, 60)
		young  = path("udp4", "203.0.113.1:1", link.CandidateSrflx, 0)
	)
	for _, tc := range []struct {
		name     string
		new, old link.PathInfo
		want     bool
	}{
		{"something than nothing", relay, none, false}, // nobody has nothing
		{"TCP than a relay", tcp, relay, true},
		{"UDP than TCP, whatever the round trip", public, tcp, true},
		{"TCP than UDP", tcp, public, false},
		{"a relay than UDP", relay, public, false},
		{"faster", v6, public, true},
		{"slower", public, v6, false},
		{"faster, but not so that it is felt", near, path("udp6", "[2001:db8::1]:1", link.CandidateHost, 7), false},
		{"as fast, in the LAN", lan, near, true},
		{"as fast, out of the LAN", near, lan, false},
		{"a slow VPN", vpn, public, false},
		{"the same", public, public, false},
		{"not measured", young, public, false},
		{"than one not measured", public, young, false},
	} {
		if got := tc.new.Better(tc.old); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// dialBeside has the guest look for a path beside that of l, and says how long it took.
func dialBeside(guest, host *link.Transport, a, b *signaler, l *link.Link) (*link.Link, time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	var accepting sync.WaitGroup
	defer accepting.Wait()
	defer cancel()
	accepting.Go(func() { _, _ = host.Accept(ctx, b) })
	begin := time.Now()
	got, err := guest.DialBeside(ctx, a, l.Path())
	return got, time.Since(begin), err
}

// A link beside another one takes another path, if there is any.
func TestDialBeside(t *testing.T) {
	guest, host := newTransport(t, loopback()), newTransport(t, loopback())
	l1, _ := connect(t, guest, host)
	a, b := newSignalers()
	l2, _, err := dialBeside(guest, host, a, b, l1)
	if len(mustListen(t, host)) < 2 {
		if !errors.Is(err, link.ErrNoPath) {
			t.Errorf("beside the only path there is: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if p := l2.Path(); p.Remote == l1.Path().Remote || p.Network == l1.Path().Network {
		t.Errorf("beside %v: %v", l1.Path(), p)
	}
	if l1.Binding() == l2.Binding() {
		t.Error("both have the same binding")
	}
	if l2.OnlyPath() {
		t.Errorf("%v is there no more", l1.Path())
	}
}

// With one path only, which takes all the time that there is, no link is made beside it,
// and the one that there is goes on.
func TestNoPathBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, 50*time.Millisecond, &coneNAT)
		guest, host := w.transports(t)
		l1, l2 := connect(t, guest, host)
		a, b := newSignalers()
		l3, took, err := dialBeside(guest, host, a, b, l1)
		if !errors.Is(err, link.ErrNoPath) || took > 10*time.Second {
			t.Errorf("%v, %v after %v", l3, err, took)
		}
		send(t, l1.Control(), "still there")
		if got := recv(t, l2.Control()); got != "still there" {
			t.Error(got)
		}
	})
}

// A host that has no other address than the present one is not made to check any, and
// the guest gives up as soon as it knows.
func TestNothingBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, 50*time.Millisecond, &coneNAT)
		guest, host := w.transports(t)
		l1, _ := connect(t, guest, host)
		a, b := newSignalers()
		b.filter = func(m link.Message) []link.Message {
			if c, ok := m.(link.Candidate); ok && c.Addr != l1.Path().Remote {
				return nil
			}
			return []link.Message{m}
		}
		a.filter = func(m link.Message) []link.Message {
			if c, ok := m.(link.Candidate); ok {
				t.Errorf("the host was told of %v", c)
			}
			return []link.Message{m}
		}
		l2, took, err := dialBeside(guest, host, a, b, l1)
		if !errors.Is(err, link.ErrNoPath) || took > time.Second {
			t.Errorf("%v, %v after %v", l2, err, took)
		}
	})
}

func TestOnlyPath(t *testing.T) {
	// What becomes of the host's messages; it has a private address, then a public one.
	keep := func(private, end bool) func(m link.Message) []link.Message {
		return func(m link.Message) []link.Message {
			switch m := m.(type) {
			case link.Candidate:
				if m.Addr.Addr().IsPrivate() && !private {
					return nil
				}
				if !m.Addr.Addr().IsPrivate() && end {
					return []link.Message{m, link.EndOfCandidates{}} // no STUN server is slow
				}
			case link.EndOfCandidates:
				return nil
			}
			return []link.Message{m}
		}
	}
	for _, tc := range []struct {
		name   string
		filter func(link.Message) []link.Message
		want   bool
	}{
		{"one address", keep(false, true), true},
		{"another one", keep(true, true), false},
		{"perhaps another one", keep(false, false), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWAN(t, 50*time.Millisecond, &coneNAT)
				guest, host := w.transports(t)
				a, b := newSignalers()
				b.filter = tc.filter
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := host.Accept(ctx, b); err != nil {
						t.Error(err)
					}
				})
				l, err := guest.Dial(ctx, a)
				if err != nil {
					t.Fatal(err)
				}
				if got := l.OnlyPath(); got != tc.want {
					t.Errorf("%v, over %v", got, l.Path())
				}
				wg.Wait()
			})
		})
	}
}

func mustListen(t *testing.T, tr *link.Transport) []netip.AddrPort {
	t.Helper()
	addrs, err := tr.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}
