package link_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pion/transport/v2/vnet"
)

// stunPort is one port of a STUN server on a virtual network.
type stunPort struct {
	conn  *vnet.UDPConn
	other *stunPort // from which it answers if asked to; nil to refuse
}

// serveSTUN answers at an address of the internet, on the ports, the first two of which
// answer for each other if change is set.
func (w *wan) serveSTUN(t *testing.T, addr string, change bool, ports ...int) {
	t.Helper()
	n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.internet.AddNet(n); err != nil {
		t.Fatal(err)
	}
	var all []*stunPort
	var serving sync.WaitGroup
	for _, port := range ports {
		c, err := n.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &stunPort{conn: c.(*vnet.UDPConn)})
	}
	if change {
		all[0].other, all[1].other = all[1], all[0]
	}
	for _, p := range all {
		serving.Go(func() {
			buf := make([]byte, 1500)
			for {
				n, from, err := p.conn.ReadFromUDP(buf)
				if err != nil {
					return
				}
				by, answer := p, stunAnswer(buf[:20], from.AddrPort())
				if n > 20 { // CHANGE-REQUEST
					if by = p.other; by == nil {
						by, answer = p, append([]byte{0x01, 0x11, 0, 8}, buf[4:20]...)
						answer = append(answer, 0x00, 0x09, 0, 4, 0, 0, 4, 20)
					}
				}
				_, _ = by.conn.WriteTo(answer, from)
			}
		})
	}
	t.Cleanup(func() {
		for _, p := range all {
			_ = p.conn.Close()
		}
		serving.Wait()
	})
}

// The kinds of NAT that a virtual network can be are told apart.
func TestNATKinds(t *testing.T) {
	const lifetime = time.Minute
	eim := func(f vnet.EndpointDependencyType, hairpin bool) *vnet.NATType {
		return &vnet.NATType{MappingBehavior: vnet.EndpointIndependent, FilteringBehavior: f, Hairpinning: hairpin, MappingLifeTime: lifetime}
	}
	both := []string{"1.2.3.5:3478", "1.2.3.5:3479"}
	for _, tt := range []struct {
		name    string
		nat     *vnet.NATType
		servers []string
		change  bool // the servers answer from their other port
		blocked bool
		want    link.NAT
		within  time.Duration
	}{
		{name: "full cone", nat: eim(vnet.EndpointIndependent, false), servers: both, change: true,
			want: link.NAT{Answered: true, Mapping: link.MappingEndpointIndependent, Filtering: link.FilteringOpen, Hairpin: link.HairpinNo, Externals: 1}},
		{name: "restricted cone", nat: eim(vnet.EndpointAddrDependent, false), servers: both, change: true,
			want: link.NAT{Answered: true, Mapping: link.MappingEndpointIndependent, Filtering: link.FilteringOpen, Hairpin: link.HairpinNo, Externals: 1}},
		{name: "port-restricted cone", nat: eim(vnet.EndpointAddrPortDependent, false), servers: both, change: true,
			want: link.NAT{Answered: true, Mapping: link.MappingEndpointIndependent, Filtering: link.FilteringPortDependent, Hairpin: link.HairpinNo, Externals: 1}},
		{name: "hairpinning", nat: eim(vnet.EndpointAddrPortDependent, true), servers: both, change: true,
			want: link.NAT{Answered: true, Mapping: link.MappingEndpointIndependent, Filtering: link.FilteringPortDependent, Hairpin: link.HairpinYes, Externals: 1}},
		{name: "symmetric", nat: &symmetricNAT, servers: both, change: true,
			want: link.NAT{Answered: true, Mapping: link.MappingAddressPortDependent, Filtering: link.FilteringPortDependent, Externals: 1, Delta: 1}},
		{name: "symmetric by address", nat: &vnet.NATType{MappingBehavior: vnet.EndpointAddrDependent, FilteringBehavior: vnet.EndpointAddrPortDependent, MappingLifeTime: lifetime},
			servers: append([]string{"1.2.3.6:3478", "1.2.3.6:3479"}, both...), change: true,
			want: link.NAT{Answered: true, Mapping: link.MappingAddressDependent, Filtering: link.FilteringPortDependent, Externals: 1, Delta: 1}},
		{name: "a server without the other port's help", nat: eim(vnet.EndpointIndependent, false), servers: both,
			want: link.NAT{Answered: true, Mapping: link.MappingEndpointIndependent, Hairpin: link.HairpinNo, Externals: 1}},
		{name: "a server with one port", nat: eim(vnet.EndpointAddrPortDependent, false), servers: both[:1],
			want: link.NAT{Answered: true, Mapping: link.MappingUnknown, Externals: 1}},
		{name: "one port under two names", nat: eim(vnet.EndpointAddrPortDependent, false), servers: []string{both[0], "stun:" + both[0]},
			want: link.NAT{Answered: true, Mapping: link.MappingUnknown, Externals: 1}},
		{name: "a dead second port", nat: eim(vnet.EndpointIndependent, false), servers: []string{"1.2.3.5:3478", "1.2.3.5:9"},
			want: link.NAT{Answered: true, Mapping: link.MappingUnknown, Externals: 1}, within: 4 * time.Second},
		{name: "UDP blocked", nat: eim(vnet.EndpointIndependent, false), servers: both, change: true, blocked: true,
			want: link.NAT{}, within: 4 * time.Second},
		{name: "no NAT", servers: both, change: true,
			want: link.NAT{Answered: true, Mapping: link.MappingNone, Filtering: link.FilteringOpen, Externals: 1, Preserved: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nat := tt.nat
				if nat == nil {
					nat = &coneNAT
				}
				w := newWAN(t, 50*time.Millisecond, nat)
				w.serveSTUN(t, "1.2.3.5", tt.change, 3478, 3479)
				w.serveSTUN(t, "1.2.3.6", tt.change, 3478, 3479)
				// Left alone, the virtual internet sends back what comes from behind a NAT
				// to its outside address.
				hairpin := nat.Hairpinning
				w.internet.AddChunkFilter(func(c vnet.Chunk) bool {
					return hairpin || !c.SourceAddr().(*net.UDPAddr).IP.Equal(c.DestinationAddr().(*net.UDPAddr).IP)
				})
				cfg := link.Config{STUN: tt.servers}
				cfg.Net = w.host
				if tt.nat == nil {
					n, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{"1.9.9.9"}})
					if err != nil {
						t.Fatal(err)
					}
					if err := w.internet.AddNet(n); err != nil {
						t.Fatal(err)
					}
					cfg.Net = n
				}
				if tt.blocked {
					w.setLoss(1, 0)
				}
				tr := newTransport(t, cfg)
				if _, ok := tr.LastNAT(); ok {
					t.Error("there is a report before anybody asked")
				}
				begin := time.Now()
				r, err := tr.NAT(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(begin)
				if limit := max(tt.within, 1300*time.Millisecond); took > limit {
					t.Errorf("took %v", took)
				}
				if r.UDPBlocked() != tt.blocked {
					t.Errorf("UDP blocked: %v", r.UDPBlocked())
				}
				got := r.V4
				t.Log(took, got)
				got.External, got.Ports = netip.AddrPort{}, nil
				tt.want.Address, tt.want.Asked = true, true
				if got.String() != tt.want.String() {
					t.Errorf("got  %v\nwant %v", got, tt.want)
				}
				// What is known is not asked again until it is old.
				begin = time.Now()
				if _, err := tr.NAT(t.Context()); err != nil || time.Since(begin) != 0 {
					t.Errorf("asked again: %v, %v", time.Since(begin), err)
				}
			})
		})
	}
}

// Under loss a kind is not taken for another, and no discovery takes longer than it may.
func TestNATUnderLoss(t *testing.T) {
	const attempts = 30
	wrong := 0
	for seed := range uint64(attempts) {
		synctest.Test(t, func(t *testing.T) {
			w := newWAN(t, 50*time.Millisecond, &vnet.NATType{MappingLifeTime: time.Minute}) // a full cone
			w.serveSTUN(t, "1.2.3.5", true, 3478, 3479)
			w.setLoss(0.2, seed)
			tr := newTransport(t, link.Config{STUN: []string{"1.2.3.5:3478", "1.2.3.5:3479"}, Net: w.host})
			begin := time.Now()
			r, err := tr.NAT(t.Context())
			if err != nil || time.Since(begin) > 4*time.Second {
				t.Fatal(err, time.Since(begin))
			}
			if r.V4.Mapping != link.MappingEndpointIndependent || r.V4.Filtering != link.FilteringOpen {
				t.Log("seed", seed, r.V4)
				wrong++
			}
		})
	}
	if wrong > 2 {
		t.Errorf("%d of %d wrong", wrong, attempts)
	}
}

// When there is no path, both ends know what both NATs do, soon enough.
func TestNoPathTellsNATs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, 50*time.Millisecond, &symmetricNAT)
		w.serveSTUN(t, "1.2.3.5", true, 3478, 3479)
		cfg := link.Config{STUN: []string{"1.2.3.5:3478", "1.2.3.5:3479"}}
		cfg.Net = w.guest
		guest := newTransport(t, cfg)
		cfg.Net = w.host
		host := newTransport(t, cfg)
		host.SetPortMapping(link.PortMappingNone)
		a, b := newSignalers()
		// The virtual NATs' ports can be guessed, and at times both are guessed right.
		own := only(func(c link.Candidate) bool { return c.Type == link.CandidateHost })
		a.filter, b.filter = own, own
		begin := time.Now()
		var errs [2]error
		var wg sync.WaitGroup
		wg.Go(func() { _, errs[0] = guest.Dial(t.Context(), a) })
		wg.Go(func() { _, errs[1] = host.Accept(t.Context(), b) })
		wg.Wait()
		if took := time.Since(begin); took > 13*time.Second {
			t.Errorf("took %v", took)
		}
		for i, err := range errs {
			var pe *link.PathError
			if !errors.As(err, &pe) || pe.NAT == nil || pe.PeerNAT == nil {
				t.Fatalf("end %d: %v: %+v", i, err, pe)
			}
			for _, r := range []*link.NATReport{pe.NAT, pe.PeerNAT} {
				if r.V4.Mapping != link.MappingAddressPortDependent || !r.V4.Answered || r.V6.Asked {
					t.Errorf("end %d: %+v", i, r)
				}
			}
			told := pe.PeerNAT
			if i == 1 {
				told = pe.NAT
			}
			if told.PortMapping != link.PortMappingNone {
				t.Errorf("end %d: port mapping %v", i, told.PortMapping)
			}
			if pe.PeerNAT.V4.External.IsValid() || pe.PeerNAT.V4.Ports != nil {
				t.Errorf("end %d: more was told than is meant to be: %+v", i, pe.PeerNAT)
			}
		}
	})
}

// What a later version sends beside what a link needs is ignored, within bounds.
func TestUnknownMessages(t *testing.T) {
	for _, tt := range []struct {
		copies int
		want   error
	}{{5, nil}, {100, link.ErrProtocol}} {
		a, b := newSignalers()
		a.filter = func(m link.Message) []link.Message {
			msgs := []link.Message{m}
			if _, ok := m.(link.Description); ok {
				for range tt.copies {
					msgs = append(msgs, link.Unknown{200, 1, 2})
				}
			}
			return msgs
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cfg := loopback()
		if tt.want != nil {
			cfg.Timeouts.Path = time.Second
		}
		var wg sync.WaitGroup
		var accepted error
		wg.Go(func() { _, _ = newTransport(t, cfg).Dial(ctx, a) })
		wg.Go(func() { _, accepted = newTransport(t, cfg).Accept(ctx, b) })
		wg.Wait()
		cancel()
		if !errors.Is(accepted, tt.want) {
			t.Errorf("%d unknown messages: %v", tt.copies, accepted)
		}
	}
}

// The log tells of every pair that was tried, once, and what became of it.
func TestPairsInLog(t *testing.T) {
	for _, tt := range []struct {
		nat         *vnet.NATType
		fates, deny []string
	}{
		{&coneNAT, []string{"link is up", `udp4 10.0.0.2:\d+ \(host\) to 1.2.2.2:\d+ \((srflx|prflx)\): in use, \d+ datagrams sent, \d+ received, round trip 1\d\d`}, nil},
		{&symmetricNAT, []string{"no link.*no direct path", `udp4 10.0.0.2:\d+ \(host\) to 192.168.0.2:\d+ \(host\): no answer, \d+ datagrams sent, 0 received`,
			`udp4 10.0.0.2:\d+ \(host\) to 1.2.2.2:\d+ \(srflx\): no answer`}, []string{"in use"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWAN(t, 50*time.Millisecond, tt.nat)
			var log bytes.Buffer
			guest := newTransport(t, link.Config{STUN: []string{stunAddr}, Net: w.guest,
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			host := newTransport(t, link.Config{STUN: []string{stunAddr}, Net: w.host})
			a, b := newSignalers()
			_, _, _ = connectOver(t, guest, host, a, b)
			_ = guest.Close()
			synctest.Wait() // pion has some last words
			for _, want := range tt.fates {
				if n := len(regexp.MustCompile(want).FindAllString(log.String(), -1)); n != 1 {
					t.Errorf("%d times %q in\n%s", n, want, log.String())
				}
			}
			for _, no := range tt.deny {
				if strings.Contains(log.String(), no) {
					t.Errorf("%q in\n%s", no, log.String())
				}
			}
		})
	}
}
