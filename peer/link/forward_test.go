package link_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/pairterm/pairterm/peer/link"
)

// fakeMapper is a PortMapper whose router answers when the test says so.
type fakeMapper struct {
	mu       sync.Mutex
	released int
	answers  map[string]func(external []netip.AddrPort, answered bool) // by network
	wanted   chan struct{}                                             // gets a value for each call of Map
}

func newFakeMapper() *fakeMapper {
	return &fakeMapper{
		answers: make(map[string]func([]netip.AddrPort, bool)),
		wanted:  make(chan struct{}, 100),
	}
}

func (m *fakeMapper) Map(network string, port uint16, changed func([]netip.AddrPort, bool)) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if port == 0 || m.answers[network] != nil {
		panic(fmt.Sprintf("asked for %s port %d", network, port))
	}
	m.answers[network] = changed
	m.wanted <- struct{}{}
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.released++
	})
}

func (m *fakeMapper) answer(network string, answered bool, external ...netip.AddrPort) {
	m.mu.Lock()
	changed := m.answers[network]
	m.mu.Unlock()
	changed(external, answered)
}

// networks gives what was asked for, sorted.
func (m *fakeMapper) networks() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.answers))
}

// given is how many ports were given back.
func (m *fakeMapper) given() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.released
}

// TestForwarded holds that what a router forwards is offered by either end, also when it
// becomes known while a link is being set up, and before the end of the candidates; and
// that each port is given back.
func TestForwarded(t *testing.T) {
	early, late := netip.MustParseAddrPort("198.51.100.7:4001"), netip.MustParseAddrPort("198.51.100.7:4002")
	nowhere, carrier := netip.MustParseAddrPort("224.0.0.1:4003"), netip.MustParseAddrPort("100.64.9.9:4004")
	for _, c := range []struct {
		name string
		end  func(context.Context, *link.Transport, link.Signaler) (*link.Link, error)
		asks []string // but for the ports
		// late is the network of which the other address becomes known once the first
		// has been offered.
		late string
		hide bool // addresses of private networks
	}{
		{"host", func(ctx context.Context, tr *link.Transport, s link.Signaler) (*link.Link, error) {
			return tr.Accept(ctx, s)
		},
			[]string{"udp4", "udp6", "tcp4", "tcp6"}, "tcp4", true},
		{"guest", func(ctx context.Context, tr *link.Transport, s link.Signaler) (*link.Link, error) {
			return tr.Dial(ctx, s)
		},
			[]string{"udp4", "udp6"}, "udp6", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			mapper := newFakeMapper()
			tr := newTransport(t, link.Config{Loopback: link.LoopbackAlways, PortMapper: mapper, TCP: true, HidePrivate: c.hide})
			offered := make(chan string, 100)
			s, _ := newSignalers()
			s.filter = func(m link.Message) []link.Message {
				switch m := m.(type) {
				case link.Candidate:
					if m.Type == link.CandidateSrflx {
						offered <- m.Network() + " " + m.Addr.String()
					}
				case link.EndOfCandidates:
					offered <- "end"
				}
				return nil // the other end hears nothing, so the set-up goes on until it is called off
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				_, err := c.end(ctx, tr, s)
				ended <- err
			}()
			for range c.asks {
				<-mapper.wanted
			}
			if got := mapper.networks(); !slices.Equal(got, slices.Sorted(slices.Values(c.asks))) {
				t.Fatalf("asked for %v", got)
			}
			for _, network := range c.asks {
				switch network {
				case "udp4":
					mapper.answer(network, true, early, nowhere, carrier)
				case c.late:
				default:
					mapper.answer(network, false)
				}
			}
			if got, want := <-offered, "udp4 "+early.String(); got != want {
				t.Errorf("first %s, want %s", got, want)
			}
			if !c.hide { // another customer of the same carrier may be there
				if got, want := <-offered, "udp4 "+carrier.String(); got != want {
					t.Errorf("second %s, want %s", got, want)
				}
			}
			mapper.answer(c.late, true, late)
			if got, want := <-offered, c.late[:3]+"4 "+late.String(); got != want {
				t.Errorf("then %s, want %s", got, want)
			}
			if got := <-offered; got != "end" {
				t.Errorf("in the end %s", got)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if r, _ := tr.LastNAT(); r.PortMapping != link.PortMappingMade {
				t.Errorf("port mapping %v", r.PortMapping)
			}
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
			if n := mapper.given(); n != len(c.asks) {
				t.Errorf("%d ports given back of %d", n, len(c.asks))
			}
		})
	}
}

// TestNotForwarded holds that nothing is asked of routers for loopback and within a LAN.
func TestNotForwarded(t *testing.T) {
	mapper := newFakeMapper()
	cfg := loopback()
	cfg.PortMapper = mapper
	connect(t, newTransport(t, cfg), newTransport(t, cfg))
	lan := newTransport(t, link.Config{PortMapper: mapper, Paths: link.PathsLAN})
	if err := lan.Prepare(); err != nil {
		t.Error(err)
	}
	if _, err := lan.Listen(); err != nil {
		t.Error(err)
	}
	if got := mapper.networks(); len(got) > 0 {
		t.Errorf("asked for %v", got)
	}
}

// eagerMapper answers at once, and does not take a port back before its answer was heard.
type eagerMapper struct{}

func (eagerMapper) Map(_ string, _ uint16, changed func([]netip.AddrPort, bool)) func() {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		changed(nil, true)
	}()
	return func() { <-heard }
}

// TestForwardedInVain has a transport that fails to listen give its ports back.
func TestForwardedInVain(t *testing.T) {
	taken, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tr := newTransport(t, link.Config{PortMapper: eagerMapper{}, TCP: true, TCPPort: taken.Addr().(*net.TCPAddr).Port})
	if _, err := tr.Listen(); err == nil {
		t.Error("the port is not taken")
	}
}
