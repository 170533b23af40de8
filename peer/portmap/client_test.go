package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeServer is a server that does as it is told.
type fakeServer struct {
	name  Protocol
	begin time.Time

	mu     sync.Mutex
	log    []string // what was asked, and when
	grant  func(want request) (grant, error)
	lost   bool  // what check tells, once
	silent error // of check and remove
	mute   bool  // everything lasts until the caller loses patience
}

func (s *fakeServer) note(ctx context.Context, format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v %s", time.Since(s.begin), fmt.Sprintf(format, args...)))
	if s.mute {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return ctx.Err()
	}
	return s.silent
}

func (s *fakeServer) protocol() Protocol { return s.name }
func (s *fakeServer) detail() string     { return "" }

func (s *fakeServer) add(ctx context.Context, want request) (grant, error) {
	suffix := ""
	if want.suggested.IsValid() {
		suffix = " as before " + want.suggested.String()
	}
	if err := s.note(ctx, "add %v%s", want, suffix); err != nil {
		return grant{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grant(want)
}

func (s *fakeServer) remove(ctx context.Context, want request, _ grant) error {
	return s.note(ctx, "remove %v", want)
}

func (s *fakeServer) check(ctx context.Context, _ request, _ grant) (bool, error) {
	if err := s.note(ctx, "check"); err != nil {
		return true, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost
	s.lost = false
	return !lost, nil
}

// set changes the server while it is in use.
func (s *fakeServer) set(change func(s *fakeServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// take gives what was asked since the last time, without the checks.
func (s *fakeServer) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := slices.DeleteFunc(s.log, func(l string) bool { return strings.HasSuffix(l, " check") })
	s.log = nil
	return log
}

var (
	outside = netip.MustParseAddr("198.51.100.7")
	home    = route{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.1.10")}
	cafe    = route{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.77")}
)

func granting(port uint16, life time.Duration) func(request) (grant, error) {
	return func(request) (grant, error) {
		return grant{external: netip.AddrPortFrom(outside, port), lifetime: life}, nil
	}
}

func newFakeServer(p Protocol) *fakeServer {
	return &fakeServer{name: p, begin: time.Now(), grant: granting(4000, time.Hour)}
}

// bench is a client in a fake network with fake time.
type bench struct {
	t      *testing.T
	client *Client
	stop   func() // ends Run and waits for it

	mu      sync.Mutex
	servers map[route][]*fakeServer
	route   route
	none    error
	told    []string
}

func newBench(t *testing.T, servers map[route][]*fakeServer) *bench {
	b := &bench{t: t, servers: servers, route: home}
	b.client = New(Config{net: network{
		findRoute: func(six bool) (route, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if six {
				return route{}, errNoGateway
			}
			return b.route, b.none
		},
		openersOf: func(r route) []opener {
			b.mu.Lock()
			defer b.mu.Unlock()
			var all []opener
			for _, s := range b.servers[r] {
				all = append(all, opener{s.name, func(context.Context) (server, error) { return s, nil }})
			}
			return append(all, opener{99, func(ctx context.Context) (server, error) {
				sleep(ctx, 4*time.Second)
				return nil, errSilent
			}})
		},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.client.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return b
}

// mapPort asks for a port and notes what is told.
func (b *bench) mapPort() (release func()) {
	return b.client.Map("udp4", 5000, func(external []netip.AddrPort, answered bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, fmt.Sprint(external, answered))
	})
}

func (b *bench) move(r route, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.route, b.none = r, err
}

func (b *bench) expect(what string, got []string, want ...string) {
	b.t.Helper()
	if !slices.Equal(got, want) {
		b.t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func (b *bench) expectTold(want ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expect("told", b.told, want...)
	b.told = nil
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d) // of synctest
	synctest.Wait()
}

// TestLife follows a mapping: it is asked for as soon as it is wanted, renewed at half of
// its lifetime, and removed at the end.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(PCP)
		s.grant = granting(4000, 10*time.Minute)
		b := newBench(t, map[route][]*fakeServer{home: {s}})
		after(time.Minute)
		b.expect("before it is wanted", s.take())
		b.mapPort()
		synctest.Wait()
		b.expect("at once", s.take(), "1m0s add udp4 port 5000")
		b.expectTold("[198.51.100.7:4000] true")
		if got := b.client.Mappings(); len(got) != 1 || got[0].String() != "udp4 198.51.100.7:4000 by PCP" {
			t.Errorf("mappings %v", got)
		}
		after(20 * time.Minute)
		b.expect("renewals", s.take(), "6m0s add udp4 port 5000 as before 198.51.100.7:4000", "11m0s add udp4 port 5000 as before 198.51.100.7:4000",
			"16m0s add udp4 port 5000 as before 198.51.100.7:4000", "21m0s add udp4 port 5000 as before 198.51.100.7:4000")
		b.expectTold()
		b.stop()
		b.expect("the end", s.take(), "21m0s remove udp4 port 5000")
		b.expectTold("[] false")
	})
}

// TestRelease gives one port back while the client goes on.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(PCP)
		b := newBench(t, map[route][]*fakeServer{home: {s}})
		defer b.stop()
		release := b.mapPort()
		synctest.Wait()
		b.expectTold("[198.51.100.7:4000] true")
		release()
		release()
		synctest.Wait()
		b.expect("given back", s.take(), "0s add udp4 port 5000", "0s remove udp4 port 5000")
		b.expectTold()
		if got := b.client.Mappings(); len(got) != 0 {
			t.Errorf("mappings %v", got)
		}
		b.mapPort()
		synctest.Wait()
		b.expect("another", s.take(), "0s add udp4 port 5000")
	})
}

// TestRouterRestarts has the router forget the mapping, grant another one, and lie dead for
// so long that the mapping runs out.
func TestRouterRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(NATPMP)
		b := newBench(t, map[route][]*fakeServer{home: {s}})
		defer b.stop()
		b.mapPort()
		synctest.Wait()
		b.expectTold("[198.51.100.7:4000] true")

		s.set(func(s *fakeServer) { s.lost, s.grant = true, granting(4001, time.Hour) })
		after(checkInterval)
		b.expectTold("[198.51.100.7:4001] true")
		b.expect("asked again", s.take(), "0s add udp4 port 5000", "30s add udp4 port 5000 as before 198.51.100.7:4000")

		after(10 * time.Second)
		s.set(func(s *fakeServer) { s.lost, s.grant = true, granting(4002, time.Hour) })
		for range 100 { // in doubt, but it is not asked more often than once a second
			b.client.Check()
			synctest.Wait()
		}
		b.expectTold("[198.51.100.7:4002] true")
		b.expect("asked in doubt", s.take(), "40s add udp4 port 5000 as before 198.51.100.7:4001")
		s.set(func(s *fakeServer) { s.lost, s.grant = true, granting(4001, time.Hour) })
		b.client.Check()
		after(doubtPause / 2)
		b.expectTold()
		after(doubtPause)
		b.expectTold("[198.51.100.7:4001] true")

		s.set(func(s *fakeServer) { s.silent = errSilent })
		after(lifetime - 5*time.Second)
		b.expectTold() // it may be back any moment
		after(checkInterval)
		b.expectTold("[] false")
		s.set(func(s *fakeServer) { s.silent = nil })
		after(time.Minute)
		b.expectTold("[198.51.100.7:4001] true")
	})
}

// TestMoves follows the machine to another network, to none, and back.
func TestMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, other := newFakeServer(PCP), newFakeServer(UPnP)
		other.grant = granting(4002, time.Hour)
		b := newBench(t, map[route][]*fakeServer{home: {s}, cafe: {other}})
		defer b.stop()
		b.mapPort()
		after(time.Second)
		s.take()
		b.move(cafe, nil)
		after(routeInterval)
		b.expect("left", s.take(), "5s remove udp4 port 5000")
		b.expect("arrived", other.take(), "5s add udp4 port 5000")
		b.expectTold("[198.51.100.7:4000] true", "[] false", "[198.51.100.7:4002] true")
		b.move(route{}, errNoGateway)
		after(routeInterval)
		b.expectTold("[] false")
		if m := b.client.Mappings()[0]; !errors.Is(m.Err, errNoGateway) || m.String() != "udp4: none: no default gateway" {
			t.Errorf("mapping %+v", m)
		}
		b.move(home, nil)
		after(routeInterval)
		b.expectTold("[198.51.100.7:4000] true")
	})
}

// TestNoServer has a router that offers nothing, until its owner turns to its settings.
func TestNoServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := map[route][]*fakeServer{}
		b := newBench(t, servers)
		defer b.stop()
		b.mapPort()
		after(4 * time.Second)
		b.expectTold("[] false")
		after(time.Hour)
		b.mapPort() // it is looked for again
		after(4 * time.Second)
		b.expectTold("[] false")
		b.mapPort() // but not all the time
		synctest.Wait()
		b.expectTold("[] false")
		b.mu.Lock()
		servers[home] = []*fakeServer{newFakeServer(UPnP)}
		b.mu.Unlock()
		after(firstSearch)
		b.client.Check()
		synctest.Wait()
		b.expectTold("[198.51.100.7:4000] true", "[198.51.100.7:4000] true", "[198.51.100.7:4000] true")
	})
}

// TestRefused goes on to the next protocol where one refuses, and rests where all do.
func TestRefused(t *testing.T) {
	refusing := func(pause time.Duration) func(request) (grant, error) {
		return func(request) (grant, error) { return grant{}, &refusedError{pcpResult(2), pause} }
	}
	t.Run("one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			pcp, upnp := newFakeServer(PCP), newFakeServer(UPnP)
			pcp.grant = refusing(0)
			b := newBench(t, map[route][]*fakeServer{home: {pcp, upnp}})
			defer b.stop()
			b.mapPort()
			after(5 * time.Second) // the search has to end
			b.expectTold("[198.51.100.7:4000] true")
			if m := b.client.Mappings()[0]; m.Protocol != UPnP {
				t.Errorf("mapping %v", m)
			}
		})
	})
	t.Run("all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeServer(PCP)
			s.grant = refusing(1<<32*time.Second - time.Second)
			b := newBench(t, map[route][]*fakeServer{home: {s}})
			defer b.stop()
			b.mapPort()
			after(lastRetry - time.Second)
			b.expectTold("[] true")
			b.expect("asked", s.take(), "0s add udp4 port 5000", "0s remove udp4 port 5000")
			s.set(func(s *fakeServer) { s.grant = granting(4000, time.Hour) })
			after(10 * time.Second)
			b.expectTold("[198.51.100.7:4000] true")
		})
	})
}

// TestLies has a router name addresses and lifetimes that cannot be. None of it is passed
// on, and none makes us ask without end.
func TestLies(t *testing.T) {
	for name, g := range map[string]grant{
		"multicast":            {external: netip.MustParseAddrPort("224.0.0.1:4000"), lifetime: time.Hour},
		"loopback":             {external: netip.MustParseAddrPort("127.0.0.1:4000"), lifetime: time.Hour},
		"unspecified":          {external: netip.MustParseAddrPort("0.0.0.0:4000"), lifetime: time.Hour},
		"this network":         {external: netip.MustParseAddrPort("0.1.2.3:4000"), lifetime: time.Hour},
		"broadcast":            {external: netip.MustParseAddrPort("255.255.255.255:4000"), lifetime: time.Hour},
		"reserved":             {external: netip.MustParseAddrPort("240.0.0.1:4000"), lifetime: time.Hour},
		"metadata":             {external: netip.MustParseAddrPort("169.254.169.254:80"), lifetime: time.Hour},
		"another port of ours": {external: netip.MustParseAddrPort("192.168.1.10:22"), lifetime: time.Hour},
		"its inner side":       {external: netip.MustParseAddrPort("192.168.1.1:4000"), lifetime: time.Hour},
		"the other family":     {external: netip.MustParseAddrPort("[2001:db8::1]:4000"), lifetime: time.Hour},
		"IPv4 in IPv6":         {external: netip.MustParseAddrPort("[::ffff:198.51.100.7]:4000"), lifetime: time.Hour},
		"no address":           {lifetime: time.Hour},
		"no port":              {external: netip.AddrPortFrom(outside, 0), lifetime: time.Hour},
		"no time":              {external: netip.AddrPortFrom(outside, 4000)},
		"a second":             {external: netip.AddrPortFrom(outside, 4000), lifetime: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeServer(PCP)
				s.grant = func(request) (grant, error) { return g, nil }
				b := newBench(t, map[route][]*fakeServer{home: {s}})
				defer b.stop()
				b.mapPort()
				after(time.Hour)
				b.expectTold("[] true")
				if n := len(s.take()); n > 40 {
					t.Errorf("%d requests in an hour", n)
				}
			})
		})
	}
	t.Run("136 years", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeServer(PCP)
			s.grant = granting(4000, 1<<32*time.Second-time.Second)
			b := newBench(t, map[route][]*fakeServer{home: {s}})
			defer b.stop()
			b.mapPort()
			synctest.Wait()
			s.take()
			after(lifetime)
			b.expect("renewed", s.take(), "10m0s add udp4 port 5000 as before 198.51.100.7:4000", "20m0s add udp4 port 5000 as before 198.51.100.7:4000")
		})
	})
	t.Run("restarts without end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeServer(PCP)
			port := uint16(4000)
			s.grant = func(request) (grant, error) {
				port++
				s.lost = true
				return grant{external: netip.AddrPortFrom(outside, port), lifetime: time.Hour}, nil
			}
			b := newBench(t, map[route][]*fakeServer{home: {s}})
			defer b.stop()
			b.mapPort()
			after(time.Hour)
			if n := len(s.take()); n > 130 {
				t.Errorf("%d requests in an hour", n)
			}
		})
	})
	t.Run("double NAT", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeServer(PCP)
			s.grant = func(request) (grant, error) {
				return grant{external: netip.MustParseAddrPort("100.64.0.9:4000"), lifetime: time.Hour}, nil
			}
			b := newBench(t, map[route][]*fakeServer{home: {s}})
			defer b.stop()
			b.mapPort()
			synctest.Wait()
			b.expectTold("[100.64.0.9:4000] true") // guests of the same carrier may be there
			if m := b.client.Mappings()[0]; !m.DoubleNAT() || !strings.Contains(m.String(), "behind another NAT") {
				t.Errorf("mapping %v", m)
			}
		})
	})
}

// TestMute has the router fall silent in the middle of everything. The end waits for it
// for no longer than it may.
func TestMute(t *testing.T) {
	for _, when := range []string{"before the mapping", "after it"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeServer(PCP)
				b := newBench(t, map[route][]*fakeServer{home: {s}})
				if when == "after it" {
					b.mapPort()
					synctest.Wait()
				}
				s.set(func(s *fakeServer) { s.mute = true })
				b.mapPort()
				after(time.Second)
				began := time.Now()
				b.stop()
				if took := time.Since(began); took > removePatience {
					t.Errorf("the end took %v", took)
				}
				if log := s.take(); !strings.Contains(log[len(log)-1], "remove") {
					t.Errorf("a mapping that may have been made stays: %q", log)
				}
			})
		})
	}
}

// TestPreference holds that a server that is found waits for a better one, a moment.
func TestPreference(t *testing.T) {
	for _, c := range []struct {
		pcp  time.Duration // until PCP is found
		want Protocol
	}{{0, PCP}, {searchGrace / 2, PCP}, {2 * searchGrace, UPnP}} {
		synctest.Test(t, func(t *testing.T) {
			find := func(p Protocol, d time.Duration) opener {
				return opener{p, func(ctx context.Context) (server, error) {
					sleep(ctx, d)
					return newFakeServer(p), nil
				}}
			}
			s := startSearch(t.Context(), []opener{find(PCP, c.pcp), find(UPnP, 0)})
			began := time.Now()
			<-s.usable
			if got := s.soFar()[0].protocol(); got != c.want || time.Since(began) > searchGrace {
				t.Errorf("PCP after %v: %v after %v", c.pcp, got, time.Since(began))
			}
			if rest := s.others(t.Context(), nil); len(rest) != 2 {
				t.Errorf("found %d in the end", len(rest))
			}
			<-s.done
		})
	}
}
