package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
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
			found := r.findings()[1:] // the first one is about the servers
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
	p := findingPrinter{w: &b, width: findingIndent + 22, colour: true}
	p.print(finding{Check: "udp", Verdict: verdictProblem, Text: "none of it gets out of this network", Hint: "ask averyveryveryverylongword here"})
	want := "  \x1b[31mproblem \x1b[m  udp        none of it gets out of\n" +
		"                       this network\n" +
		"                       -> ask averyveryveryverylongword here\n"
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}
