package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/portmap"
	"github.com/pairterm/pairterm/signal"
)

// What doctor makes of networks as they are met with.
func TestDoctorNetworks(t *testing.T) {
	outside := netip.MustParseAddrPort("198.51.100.7:4000")
	report := func(m link.NATMapping, f link.NATFiltering, changes ...func(*link.NATReport)) link.NATReport {
		r := link.NATReport{V4: link.NAT{Address: true, Asked: true, Answered: true, Mapping: m, Filtering: f, External: outside, Externals: 1}}
		for _, c := range changes {
			c(&r)
		}
		return r
	}
	ipv6 := func(r *link.NATReport) {
		r.V6 = link.NAT{Address: true, Asked: true, Answered: true, Filtering: link.FilteringPortDependent}
	}
	for _, tt := range []struct {
		name string
		nat  link.NATReport
		want []string // check, verdict and the beginning of the text
	}{
		{"a public address", report(link.MappingNone, link.FilteringOpen), []string{
			"nat ok none, outside address 198.51.100.7 (mapping: none, filtering: open",
			"ipv6 note none in this network",
			"guests ok everybody can join whose network lets UDP out"}},
		{"a firewall", report(link.MappingNone, link.FilteringPortDependent), []string{
			"nat note none, but a firewall that lets nobody in unasked",
			"ipv6 note none",
			"guests ok those can join who have no NAT or a usual one"}},
		{"a full cone", report(link.MappingEndpointIndependent, link.FilteringOpen), []string{
			"nat ok an open one", "ipv6 note none", "guests ok everybody can join"}},
		{"a usual one, and IPv6", report(link.MappingEndpointIndependent, link.FilteringPortDependent, ipv6), []string{
			"nat ok a usual one", "ipv6 ok works, behind a firewall",
			"guests ok those can join who have no NAT or a usual one, but not from behind symmetric NATs; and everybody with IPv6"}},
		{"a symmetric one", report(link.MappingAddressPortDependent, link.FilteringPortDependent), []string{
			"nat warning a symmetric one, which hides where packets must go, outside address 198.51.100.7 (mapping",
			"ipv6 note none", "guests warning only those can join who have no NAT or an open one"}},
		{"one that counts", report(link.MappingAddressDependent, link.FilteringPortDependent, func(r *link.NATReport) { r.V4.Delta = 2 }), []string{
			"nat warning a symmetric one, which hides where packets must go, outside address 198.51.100.7, though its ports can be guessed: they go in steps of 2",
			"ipv6 note", "guests warning"}},
		{"a mapped port", report(link.MappingAddressPortDependent, link.FilteringPortDependent, func(r *link.NATReport) { r.PortMapping = link.PortMappingMade }), []string{
			"nat warning", "ipv6 note", "guests ok everybody can join"}},
		{"a server with one port", report(link.MappingUnknown, link.FilteringUnknown), []string{
			"nat note one of which the kind is not known", "ipv6 note", "guests note those in the same network or VPN can join; whether others can is not known"}},
		{"a server in the LAN", report(link.MappingNone, link.FilteringOpen, func(r *link.NATReport) { r.V4.External = netip.MustParseAddrPort("192.168.1.2:1") }), []string{
			"nat note not tested: the STUN server is in this network, and sees this machine as 192.168.1.2", "ipv6 note", "guests note those in the same network"}},
		{"IPv6 only", link.NATReport{V6: link.NAT{Address: true, Asked: true, Answered: true}}, []string{
			"ipv6 ok works", "guests note everybody with IPv6 can join"}},
		{"IPv6 that leads nowhere", report(link.MappingNone, link.FilteringOpen, func(r *link.NATReport) { r.V6 = link.NAT{Address: true, Asked: true} }), []string{
			"nat ok none", "ipv6 warning this machine has an address, but no answer comes", "guests ok"}},
		{"UDP blocked", link.NATReport{V4: link.NAT{Address: true, Asked: true}}, []string{
			"ipv6 note none", "guests problem only those in the same network or VPN can join"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := routeResult{servers: []string{"signal.example.org:3478"}, nat: tt.nat}
			found := r.findings(routerResult{})[1:] // the first one is about the servers
			if len(found) != len(tt.want) {
				t.Fatalf("%d findings, want %d: %+v", len(found), len(tt.want), found)
			}
			for i, f := range found {
				got := f.Check + " " + f.Verdict.String() + " " + f.Text
				if !strings.HasPrefix(got, tt.want[i]) {
					t.Errorf("got  %s\nwant %s", got, tt.want[i])
				}
				if f.Verdict >= verdictWarning && f.Hint == "" {
					t.Errorf("%s: no hint what to do", got)
				}
			}
		})
	}
}

func TestDoctorRouter(t *testing.T) {
	inner, outer := netip.MustParseAddrPort("100.64.0.9:4000"), netip.MustParseAddrPort("198.51.100.7:4000")
	spoken := func(p portmap.Protocol, external netip.AddrPort, err error) portmap.Service {
		return portmap.Service{Protocol: p, Network: "udp4", Spoken: true, External: external, Err: err, Detail: "MiniUPnPd\x1b[2J"}
	}
	silent := portmap.Service{Protocol: portmap.PCP, Network: "udp4", Err: errors.New("no answer")}
	behind := link.NAT{Mapping: link.MappingEndpointIndependent}
	for _, tt := range []struct {
		name   string
		router routerResult
		nat    link.NAT
		useful bool
		want   string
	}{
		{"not asked", routerResult{}, behind, false, ""},
		{"no router", routerResult{asked: true, err: errors.New("no gateway")}, behind, false, "note no router to ask"},
		{"silence", routerResult{asked: true, report: portmap.Report{Services: []portmap.Service{silent}}}, behind, false,
			"note the router speaks none of PCP, NAT-PMP and UPnP"},
		{"silence without a NAT", routerResult{asked: true, report: portmap.Report{Services: []portmap.Service{silent}}}, link.NAT{Mapping: link.MappingNone}, false,
			"note no router maps ports, and without a NAT none need be mapped"},
		{"two that work", routerResult{asked: true, report: portmap.Report{Services: []portmap.Service{silent, spoken(portmap.NATPMP, outer, nil), spoken(portmap.UPnP, outer, nil)}}}, behind, true,
			"ok the router maps ports by NAT-PMP, UPnP, at 198.51.100.7 (MiniUPnPd"},
		{"one that refuses", routerResult{asked: true, report: portmap.Report{Services: []portmap.Service{spoken(portmap.UPnP, netip.AddrPort{}, errors.New("not authorised"))}}}, behind, false,
			"warning the router speaks UPnP, and maps no port: not authorised"},
		{"another NAT", routerResult{asked: true, report: portmap.Report{Services: []portmap.Service{spoken(portmap.PCP, inner, nil)}}}, behind, false,
			"warning the router maps ports by PCP, but there is another NAT in front of it: its outer address is 100.64.0.9"},
	} {
		got := ""
		for _, f := range tt.router.findings(tt.nat) {
			got = f.Verdict.String() + " " + f.Text
			if f.Verdict >= verdictWarning && f.Hint == "" {
				t.Errorf("%s: no hint", tt.name)
			}
		}
		if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" || strings.Contains(got, "\x1b") {
			t.Errorf("%s:\n%q\nwant\n%q", tt.name, got, tt.want)
		}
		if tt.router.useful() != tt.useful {
			t.Errorf("%s: useful %v", tt.name, tt.router.useful())
		}
	}
}

func TestDoctorClock(t *testing.T) {
	for _, tt := range []struct {
		skew    time.Duration
		verdict verdict
		text    string
	}{
		{-time.Second, verdictOK, "agrees with the server's"},
		{90 * time.Second, verdictWarning, "1m30s slow by the server's"},
		{-time.Hour, verdictWarning, "1h0m0s fast by the server's"},
		{48 * time.Hour, verdictProblem, "48h0m0s slow"},
	} {
		if f := clockFinding(tt.skew); f.Verdict != tt.verdict || !strings.HasPrefix(f.Text, tt.text) {
			t.Errorf("%v: %v %s", tt.skew, f.Verdict, f.Text)
		}
	}
}

// The worst finding decides, and what is printed is the same for people and programs.
func TestExamination(t *testing.T) {
	var e examination
	e.add(finding{Check: "keys", Text: "2 keys"}, finding{Check: "nat", Verdict: verdictNote, Text: "x"})
	if e.Verdict.code() != exitOK || e.summary() != "all is well" {
		t.Errorf("%d, %s", e.Verdict.code(), e.summary())
	}
	e.add(finding{Check: "udp", Verdict: verdictProblem, Text: "none of it gets out", Hint: "try <another> network & see"}, finding{Check: "clock", Verdict: verdictWarning, Text: "slow"})
	if e.Verdict.code() != exitDoctorProblem || e.summary() != "1 problem and 1 warning" {
		t.Errorf("%d, %s", e.Verdict.code(), e.summary())
	}
	var b bytes.Buffer
	if err := e.printJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Verdict  string
		Findings []struct{ Check, Verdict, Text, Hint string }
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Verdict != "problem" || len(back.Findings) != 4 ||
		back.Findings[2].Hint != "try <another> network & see" || back.Findings[3].Verdict != "warning" {
		t.Errorf("%+v, %v", back, err)
	}

	b.Reset()
	p := findingPrinter{w: &b, width: findingIndent + 23, colour: true}
	p.print(finding{Check: "udp", Verdict: verdictProblem, Text: "none of it gets out of this network", Hint: "open a port averyveryverylongword: pairterm host --port 40000"})
	want := "  \x1b[31mproblem \x1b[m  udp        none of it gets out of\n" +
		"                       this network\n" +
		"                       -> open a port\n" +
		"                          averyveryverylongword:\n" +
		"                          pairterm host --port 40000\n"
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}

// A port that another program has is told as that, and nothing else is.
func TestDoctorPort(t *testing.T) {
	busy, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.LocalAddr().(*net.UDPAddr).Port
	d := newDoctor(stdio{}, doctorOptions{port: port})
	found := d.explore(context.Background(), nil, ticketResult{}).findings(routerResult{})
	if len(found) != 1 || found[0].Verdict != verdictProblem || !strings.Contains(found[0].Hint, "another program has that port") {
		t.Errorf("a port that is taken: %+v", found)
	}
	other := routeResult{port: port, err: errors.New("of another kind")}.findings(routerResult{})
	if len(other) != 1 || other[0].Hint != "" {
		t.Errorf("another error: %+v", other)
	}
}

// Who lacks a STUN server is told why, and where to look.
func TestDoctorNoSTUN(t *testing.T) {
	told := signal.Info{Server: "ws://192.0.2.1"}
	refused := serverResult{hostErr: signal.ErrNotAllowed}
	for _, tt := range []struct {
		name       string
		servers    []serverResult
		host       ticketResult
		text, hint string
	}{
		{"nobody to ask", nil, ticketResult{}, "for want of a STUN server", "name a signaling server"},
		{"refused", []serverResult{{info: told}, refused}, ticketResult{}, "told of no STUN server", "see signaling above"},
		{"down", []serverResult{{pingErr: signal.ErrUnreachable, hostErr: signal.ErrUnreachable}}, ticketResult{}, "told of no STUN server", "see signaling above"},
		{"none there", []serverResult{{info: told}}, ticketResult{}, "has no STUN server to tell of", "name a STUN server"},
		{"absent host", nil, ticketResult{first: told.Server, err: signal.ErrNoRoom}, "told of no STUN server", "see host below"},
		{"host without", nil, ticketResult{first: told.Server, info: told}, "has no STUN server to tell of", "name a STUN server"},
	} {
		f := noSTUN(tt.servers, tt.host)
		if f.Verdict != verdictNote || !strings.Contains(f.Text, tt.text) || !strings.HasPrefix(f.Hint, tt.hint) {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}
