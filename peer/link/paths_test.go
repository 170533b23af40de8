package link_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
)

func TestParsePaths(t *testing.T) {
	for _, p := range []link.Paths{link.PathsDirect, link.PathsLAN, link.PathsAny} {
		if got, err := link.ParsePaths(p.String()); got != p || err != nil {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	for _, s := range []string{"", "LAN", "relay", "Paths(3)"} {
		if got, err := link.ParsePaths(s); err == nil {
			t.Errorf("%q read as %v", s, got)
		}
	}
}

func TestCheckPublic(t *testing.T) {
	for addr, ok := range map[string]bool{
		"203.0.113.7:0": true, "203.0.113.7:40000": true, "[2001:db8::7]:1": true, "10.8.0.1:0": true,
		"127.0.0.1:0": false, "0.0.0.0:1": false, "224.0.0.1:1": false, "255.255.255.255:1": false,
		"[fe80::1]:1": false, "[::1]:1": false, "[::ffff:203.0.113.7]:1": false, "169.254.169.254:80": false,
	} {
		a := netip.MustParseAddrPort(addr)
		if err := link.CheckPublic(a); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
		tr, err := link.NewTransport(link.Config{Public: []netip.AddrPort{a}})
		if (err == nil) != ok {
			t.Errorf("a transport with %s: %v", addr, err)
		}
		if err == nil {
			_ = tr.Close()
		}
	}
}

// offers collects the candidates that go through a signaler.
func offers(s *signaler) func() []string {
	var (
		mu  sync.Mutex
		out []string
	)
	s.filter = func(m link.Message) []link.Message {
		if c, ok := m.(link.Candidate); ok {
			mu.Lock()
			defer mu.Unlock()
			out = append(out, c.String())
		}
		return []link.Message{m}
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(out)
	}
}

// Addresses in front of a NAT that somebody vouches for are offered for UDP and TCP,
// with the port that links are accepted on unless another one is given.
func TestPublic(t *testing.T) {
	cfg := loopback()
	cfg.TCP = true
	cfg.Public = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.4:0"), netip.MustParseAddrPort("198.51.100.5:4711")}
	host := newTransport(t, cfg)
	a, b := newSignalers()
	offered := offers(b)
	if _, _, err := connectOver(t, newTransport(t, loopback()), host, a, b); err != nil {
		t.Fatal(err)
	}
	addrs, err := host.Listen()
	if err != nil {
		t.Fatal(err)
	}
	var own string
	for _, a := range addrs {
		if a.Addr().Is4() {
			own = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.4"), a.Port()).String()
		}
	}
	for _, want := range []string{"srflx udp4 " + own, "srflx tcp4 198.51.100.4:", "srflx udp4 198.51.100.5:4711", "srflx tcp4 198.51.100.5:4711"} {
		if !slices.ContainsFunc(offered(), func(s string) bool { return len(s) >= len(want) && s[:len(want)] == want }) {
			t.Errorf("no %q among %v", want, offered())
		}
	}
}

// An end that keeps its private addresses to itself is found all the same, by the checks
// that it sends.
func TestHidePrivate(t *testing.T) {
	hiding := loopback()
	hiding.HidePrivate, hiding.TCP = true, true
	for name, cfgs := range map[string][2]link.Config{
		"the guest hides": {hiding, loopback()},
		"the host hides":  {loopback(), hiding},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newSignalers()
			side := a
			if cfgs[1].HidePrivate {
				side = b
			}
			offered := offers(side)
			connectOver(t, newTransport(t, cfgs[0]), newTransport(t, cfgs[1]), a, b)
			if got := offered(); len(got) != 0 {
				t.Errorf("offered %v", got)
			}
		})
	}
}

// With PathsLAN nothing is exchanged with addresses outside of private networks, and
// none are offered or asked.
func TestPathsLAN(t *testing.T) {
	server := newSTUNServer(t, "203.0.113.7:4711")
	server.start()
	lan := loopback()
	lan.Paths, lan.STUN = link.PathsLAN, []string{server.String()}
	lan.Public = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.4:0")}
	host := newTransport(t, lan)
	a, b := newSignalers()
	offered := offers(b)
	if _, _, err := connectOver(t, newTransport(t, lan), host, a, b); err != nil {
		t.Fatal(err)
	}
	for _, c := range offered() {
		if c[:4] != "host" {
			t.Errorf("offered %v", offered())
		}
	}
	if got, err := host.Mappings(context.Background()); len(got) != 0 || err != nil {
		t.Errorf("asked for mappings: %v, %v", got, err)
	}

	// Candidates elsewhere are refused.
	lan.Timeouts.Path = 50 * time.Millisecond
	_, s := newSignalers()
	raw := rawSignaler{s, make(chan link.Message, 10)}
	raw.msgs <- goodDescription(link.SetupActPass)
	elsewhere := []string{"198.51.100.4:9", "[2001:db8::1]:9", "100.64.0.1:9"}
	for _, addr := range elsewhere {
		raw.msgs <- link.Candidate{Type: link.CandidateHost, Transport: link.CandidateUDP, Priority: 1, Addr: netip.MustParseAddrPort(addr)}
	}
	_, err := newTransport(t, lan).Accept(context.Background(), raw)
	var pe *link.PathError
	if !errors.As(err, &pe) || pe.Refused != len(elsewhere) || len(pe.Tried) != 0 {
		t.Errorf("%v", err)
	}
}

// A relay is refused by those who want direct paths, which is the default.
func TestRelaysAreRefused(t *testing.T) {
	cfg := loopback()
	cfg.Timeouts.Path = 50 * time.Millisecond
	_, s := newSignalers()
	raw := rawSignaler{s, make(chan link.Message, 10)}
	raw.msgs <- goodDescription(link.SetupActPass)
	raw.msgs <- link.Candidate{Type: link.CandidateRelay, Transport: link.CandidateUDP, Priority: 1, Addr: netip.MustParseAddrPort("127.0.0.1:9")}
	_, err := newTransport(t, cfg).Accept(context.Background(), raw)
	var pe *link.PathError
	if !errors.As(err, &pe) || pe.Refused != 1 || len(pe.Tried) != 0 {
		t.Errorf("%v", err)
	}
}

// However many TCP addresses a host names, a guest opens few connections.
func TestTCPCandidatesAreBounded(t *testing.T) {
	cfg := loopback()
	cfg.TCP, cfg.Timeouts.Path = true, time.Second
	guest := newTransport(t, cfg)
	var (
		mu       sync.Mutex
		accepted int
		working  sync.WaitGroup
	)
	_, s := newSignalers()
	raw := rawSignaler{s, make(chan link.Message, 40)}
	raw.msgs <- goodDescription(link.SetupActive)
	t.Cleanup(working.Wait)
	const named = 20
	for range named {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		working.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_ = c.Close()
				mu.Lock()
				accepted++
				mu.Unlock()
			}
		})
		raw.msgs <- link.Candidate{Type: link.CandidateHost, Transport: link.CandidateTCP, Priority: 1, Addr: ln.Addr().(*net.TCPAddr).AddrPort()}
	}
	_, err := guest.Dial(context.Background(), raw)
	var pe *link.PathError
	if !errors.As(err, &pe) || len(pe.Tried) == 0 || pe.Refused+len(pe.Tried) != named || len(pe.Tried) >= named/2 {
		t.Fatalf("%v: %+v", err, pe)
	}
	mu.Lock()
	defer mu.Unlock()
	if accepted == 0 || accepted > len(pe.Tried) {
		t.Errorf("%d connections to %d addresses", accepted, len(pe.Tried))
	}
}
