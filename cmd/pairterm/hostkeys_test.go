package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/portmap"
	"github.com/pairterm/pairterm/peer/stream"
	"github.com/pairterm/pairterm/term"
)

// hostScreen notes what is shown.
type hostScreen struct {
	shown []string
	parts bool // only a part of the screen fits
}

func (s *hostScreen) Notice(text string) { s.shown = append(s.shown, text) }
func (s *hostScreen) Status(text string) { s.shown = append(s.shown, "status: "+text) }
func (s *hostScreen) MoveView(dx, dy int) bool {
	return s.parts
}

func TestHostKeys(t *testing.T) {
	screen := &hostScreen{}
	k := &hostKeys{leader: term.DefaultLeader, screen: screen, guests: func() []peer.GuestInfo { return nil }}
	k.Leader()
	if got := k.Command('i'); got != term.CommandDone {
		t.Errorf("i: %v", got)
	}
	k.Done()
	want := "status: i who is here, and how  arrows move  Ctrl-] send it|pairterm: nobody is here|status: "
	if got := strings.Join(screen.shown, "|"); got != want {
		t.Errorf("shown %q", got)
	}
	if got := k.Command(term.KeyUp); got != term.CommandUnknown {
		t.Errorf("an arrow with nowhere to go: %v", got)
	}
	screen.parts = true
	if got := k.Command(term.KeyUp); got != term.CommandAgain {
		t.Errorf("an arrow: %v", got)
	}
	if got := k.Command('x'); got != term.CommandUnknown {
		t.Errorf("x: %v", got)
	}
}

func TestDescribeMapping(t *testing.T) {
	udp := portmap.Mapping{Network: "udp4", Port: 5000}
	with := func(change func(*portmap.Mapping)) portmap.Mapping { m := udp; change(&m); return m }
	made := with(func(m *portmap.Mapping) {
		m.External, m.Protocol = netip.MustParseAddrPort("198.51.100.7:5000"), portmap.PCP
	})
	for _, tt := range []struct {
		all  []portmap.Mapping
		want string
	}{
		{nil, ""},
		{[]portmap.Mapping{udp}, ""},
		{[]portmap.Mapping{{Network: "tcp4"}, made}, "port mapping: udp4 198.51.100.7:5000 by PCP"},
		{[]portmap.Mapping{with(func(m *portmap.Mapping) {
			m.External, m.Protocol = netip.MustParseAddrPort("100.64.0.7:5000"), portmap.UPnP
		})},
			"port mapping: udp4 100.64.0.7:5000 by UPnP, of little use: the router itself is behind another NAT"},
		{[]portmap.Mapping{with(func(m *portmap.Mapping) { m.Err = errors.New("not authorized") })}, "port mapping: udp4: none: not authorized"},
	} {
		if got := describeMapping(tt.all); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	screen := &hostScreen{}
	k := &hostKeys{screen: screen, guests: func() []peer.GuestInfo { return nil }, mappings: func() []portmap.Mapping { return []portmap.Mapping{made} }}
	k.Command('i')
	if got := len(screen.shown); got != 2 {
		t.Errorf("shown %q", screen.shown)
	}
}

func TestDescribeGuests(t *testing.T) {
	now := time.Now()
	alice := peer.GuestInfo{Comment: "alice@laptop", Role: keys.RoleType, Linked: true, Since: now.Add(-3 * time.Minute),
		Path:  link.PathInfo{Network: "udp4", RemoteType: link.CandidateSrflx, RTT: time.Second},
		Stats: stream.Stats{Mode: stream.ModeLog, RTT: 23 * time.Millisecond, Loss: 0.02}}
	with := func(change func(*peer.GuestInfo)) peer.GuestInfo { g := alice; change(&g); return g }
	for _, tt := range []struct {
		guest peer.GuestInfo
		want  string
	}{
		{alice, "alice@laptop types, connected directly over udp4; round trip 23 ms, loss 2 %, since 3 min"},
		{with(func(g *peer.GuestInfo) {
			g.Role, g.Stats.Mode, g.Path.RemoteType, g.Since = keys.RoleView, stream.ModeFrame, link.CandidateRelay, now.Add(-2*time.Hour)
		}), "alice@laptop looks on, connected relayed over udp4; round trip 23 ms, loss 2 %, catching up, since 2 h"},
		{with(func(g *peer.GuestInfo) { g.Stats = stream.Stats{Stalled: true}; g.Since = now.Add(-5 * time.Second) }),
			"alice@laptop types, connected directly over udp4, nothing heard just now, since 5 s"},
		{with(func(g *peer.GuestInfo) { g.Linked = false }), "alice@laptop types, connection lost"},
		{with(func(g *peer.GuestInfo) { g.Linked, g.Path = false, link.PathInfo{} }), "alice@laptop types, being connected"},
	} {
		if got := describeGuest(tt.guest, now); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	var many []peer.GuestInfo
	for range 12 {
		many = append(many, alice)
	}
	if got := describeGuests(many, now); len(got) != 8 || got[7] != "and 5 more" {
		t.Errorf("%q", got)
	}
}
