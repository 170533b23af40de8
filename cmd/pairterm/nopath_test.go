package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/link"
)

// Networks as they are met with.
var (
	natEasy      = link.NATReport{V4: link.NAT{Address: true, Asked: true, Answered: true, Mapping: link.MappingEndpointIndependent, Filtering: link.FilteringPortDependent}}
	natSymmetric = link.NATReport{V4: link.NAT{Address: true, Asked: true, Answered: true, Mapping: link.MappingAddressPortDependent, Filtering: link.FilteringPortDependent}}
	natBlocked   = link.NATReport{V4: link.NAT{Address: true, Asked: true}}
	natFirewall  = link.NATReport{V4: link.NAT{Address: true, Asked: true, Answered: true, Mapping: link.MappingNone, Filtering: link.FilteringPortDependent}}
	natUnknown   = link.NATReport{V4: link.NAT{Address: true}}
)

func with(r link.NATReport, change func(*link.NATReport)) *link.NATReport {
	change(&r)
	return &r
}

func withIPv6(r link.NATReport) *link.NATReport {
	return with(r, func(r *link.NATReport) {
		r.V6 = link.NAT{Address: true, Asked: true, Answered: true, Mapping: link.MappingNone}
	})
}

func mapping(r link.NATReport, m link.PortMapping) *link.NATReport {
	return with(r, func(r *link.NATReport) { r.PortMapping = m })
}

func TestNoPathAdvice(t *testing.T) {
	for _, tt := range []struct {
		name        string
		host, guest *link.NATReport
		notice      string // at the host
		atHost      string // the hint there
		atGuest     string // and at the guest
	}{
		{"both symmetric", &natSymmetric, &natSymmetric,
			"no direct path (you: symmetric NAT; guest: symmetric NAT); what helps: UPnP or NAT-PMP in your router",
			"turn on UPnP or NAT-PMP in your router's settings and start again: pairterm host",
			"the host is to turn on UPnP or NAT-PMP in its router's settings"},
		{"IPv6 at the guest", &natSymmetric, withIPv6(natEasy),
			"no direct path (you: symmetric NAT; guest: NAT); what helps: IPv6 here",
			"turn on IPv6 in this network",
			"the host is to turn on IPv6 in its network"},
		{"IPv6 at the host", withIPv6(natSymmetric), &natSymmetric,
			"no direct path (you: symmetric NAT; guest: symmetric NAT); what helps: IPv6 there",
			"the guest is to turn on IPv6 in its network",
			"turn on IPv6 in this network"},
		{"a router that refuses", mapping(natSymmetric, link.PortMappingRefused), &natSymmetric,
			"no direct path (you: symmetric NAT; guest: symmetric NAT); what helps: pairterm host --port 40000, forwarded",
			"forward UDP port 40000 to this machine, in the router's or firewall's settings, and start again: pairterm host --port 40000",
			"the host is to forward UDP port 40000 to its machine"},
		{"a firewall", &natFirewall, &natSymmetric,
			"no direct path (you: firewall; guest: symmetric NAT); what helps: pairterm host --port 40000, forwarded",
			"forward UDP port 40000 to this machine",
			"the host is to forward UDP port 40000 to its machine"},
		{"a mapping behind another NAT", mapping(natSymmetric, link.PortMappingMade), &natSymmetric,
			"no direct path (you: symmetric NAT; guest: symmetric NAT); what helps: a VPN",
			"put both machines into one VPN",
			"put both machines into one VPN"},
		{"UDP blocked at the guest", withIPv6(natEasy), &natBlocked,
			"no direct path (you: NAT; guest: UDP blocked); what helps: pairterm host --tcp-port 443, forwarded",
			"forward TCP port 443 to this machine, since the guest's network blocks UDP",
			"the host is to forward TCP port 443 to its machine, since your network blocks UDP"},
		{"UDP blocked at the host", &natBlocked, &natEasy,
			"no direct path (you: UDP blocked; guest: NAT); what helps: a VPN",
			"put both machines into one VPN",
			"put both machines into one VPN"},
		{"STUN that answers nobody", &natBlocked, &natBlocked,
			"no direct path, and no answer from STUN to either side; open 3478/udp and 3479/udp at the signaling server",
			"the signaling server's STUN answers neither side",
			"the signaling server's STUN answers neither side"},
		{"nothing known", &natUnknown, &natUnknown,
			"no direct path; to find out why: pairterm doctor",
			"both machines sit behind firewalls or NATs",
			"both machines sit behind firewalls or NATs"},
		{"an older guest", &natSymmetric, nil,
			"no direct path; to find out why: pairterm doctor",
			"both machines sit behind firewalls or NATs",
			"both machines sit behind firewalls or NATs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// As it comes, wrapped.
			at := func(hosting bool, own, other *link.NATReport) noPath {
				err := fmt.Errorf("joining: %w", &link.PathError{NAT: own, PeerNAT: other})
				n, ok := asNoPath(err, hosting)
				if !ok {
					t.Fatal("not taken for what it is")
				}
				return n
			}
			host, guest := at(true, tt.host, tt.guest), at(false, tt.guest, tt.host)
			if got := host.notice(); got != tt.notice {
				t.Errorf("the host's notice:\n%s\nwant\n%s", got, tt.notice)
			}
			if got := host.hints(); !strings.HasPrefix(got[0], tt.atHost) {
				t.Errorf("the host's hint: %q", got)
			}
			if got := guest.hints(); !strings.HasPrefix(got[0], tt.atGuest) {
				t.Errorf("the guest's hint: %q", got)
			}
			if n := len("alice@laptop: " + host.notice()); n > 130 {
				t.Errorf("a notice of %d characters", n)
			}
		})
	}
}

func TestNoPathInLAN(t *testing.T) {
	n := noPath{&link.PathError{Paths: link.PathsLAN, NAT: &natSymmetric, PeerNAT: &natSymmetric}, true}
	if got := n.hints(); len(got) != 1 || !strings.Contains(got[0], "--path lan") {
		t.Errorf("the hints are %q", got)
	}
	if got := n.notice(); !strings.Contains(got, "--path lan") {
		t.Errorf("the notice is %q", got)
	}
}

func TestNoPathDetails(t *testing.T) {
	cand := func(typ link.CandidateType, tr link.CandidateTransport, addr string) link.Candidate {
		return link.Candidate{Type: typ, Transport: tr, Priority: 1, Addr: netip.MustParseAddrPort(addr)}
	}
	own := []link.Candidate{
		cand(link.CandidateHost, link.CandidateUDP, "192.168.0.2:1"),
		cand(link.CandidateHost, link.CandidateUDP, "[2001:db8::2]:1"),
		cand(link.CandidateSrflx, link.CandidateUDP, "192.0.2.1:1"),
	}
	for _, tt := range []struct {
		name  string
		tried []link.Attempt
		want  []string // the last lines
	}{
		{"nothing in common", nil, []string{"tried nothing: the 3 addresses here and the 0 there have no protocol in common"}},
		{"LAN and outside", []link.Attempt{
			{Candidate: cand(link.CandidateHost, link.CandidateUDP, "10.0.0.2:5")},
			{Candidate: cand(link.CandidateSrflx, link.CandidateUDP, "198.51.100.1:5"), Received: 3},
			{Candidate: cand(link.CandidateHost, link.CandidateTCP, "10.0.0.2:5")},
		}, []string{"tried 5 pairs of addresses in 12 s: 4 over udp4 (1 own and 1 outside here, 1 own and 1 outside there), 1 over tcp4; something came from 1 of them, but not there and back"}},
		{"the same router", []link.Attempt{
			{Candidate: cand(link.CandidateSrflx, link.CandidateUDP, "192.0.2.1:7")},
		}, []string{
			"tried 2 pairs of addresses in 12 s: 2 over udp4 (1 own and 1 outside here, 1 outside there); nothing came from any of them",
			"both come from the same outside address, 192.0.2.1: what both are behind, a router, a Wi-Fi or a provider, keeps them apart",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := noPath{&link.PathError{Local: own, Tried: tt.tried, NAT: &natSymmetric, PeerNAT: withIPv6(natEasy), Elapsed: 12040 * time.Millisecond}, false}
			want := append([]string{
				"your network: a symmetric NAT, which hides where packets must go; no IPv6",
				"the host's: a NAT that is easy to get through; IPv6",
			}, tt.want...)
			if got := n.details(); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if s, _ := n.best(); tt.name == "the same router" && s.remedy != remedyVPN && s.remedy != remedyIPv6 {
				t.Errorf("what is to help is %v", s)
			}
		})
	}
}
