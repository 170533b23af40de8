package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pairterm/pairterm/peer/link"
)

// noPath is a search for a direct path that failed, as one of the two ends sees it.
type noPath struct {
	*link.PathError
	hosting bool // this end is the host
}

// asNoPath finds out whether err is about a path that was not found.
func asNoPath(err error, hosting bool) (noPath, bool) {
	var pe *link.PathError
	ok := errors.As(err, &pe)
	return noPath{pe, hosting}, ok
}

// details tells what was tried, and what each network does, a line each.
func (n noPath) details() []string {
	own, other := "your network", "the host's"
	if n.hosting {
		other = "the guest's"
	}
	lines := []string{
		own + ": " + describeNetwork(n.NAT),
		other + ": " + describeNetwork(n.PeerNAT),
		"tried " + n.tried(),
	}
	if n.Relay != nil {
		lines = append(lines, n.Relay.Error())
	}
	if a := n.sameOutside(); a.IsValid() {
		lines = append(lines, fmt.Sprintf("both come from the same outside address, %v: what both are behind, a router, a Wi-Fi or a provider, keeps them apart", a))
	}
	return lines
}

// describeNetwork says what a machine's way out does.
func describeNetwork(r *link.NATReport) string {
	switch {
	case r == nil:
		return "unknown"
	case r.UDPBlocked():
		return "UDP is blocked"
	}
	return describeIPv4(r.V4) + "; " + describeIPv6(r.V6)
}

func describeIPv4(n link.NAT) string {
	switch {
	case !n.Address:
		return "no IPv4"
	case !n.Asked:
		return "IPv4, not tested for want of a STUN server"
	case !n.Answered:
		return "IPv4 without UDP"
	}
	switch n.Mapping {
	case link.MappingNone:
		if n.Filtering == link.FilteringPortDependent {
			return "a public IPv4 address behind a firewall"
		}
		return "a public IPv4 address"
	case link.MappingEndpointIndependent:
		return "a NAT that is easy to get through"
	case link.MappingAddressDependent, link.MappingAddressPortDependent:
		if n.Delta != 0 {
			return "a symmetric NAT, whose ports can be guessed"
		}
		return "a symmetric NAT, which hides where packets must go"
	}
	return "a NAT of unknown kind"
}

func describeIPv6(n link.NAT) string {
	switch {
	case n.Answered:
		return "IPv6"
	case n.Address && !n.Asked:
		return "IPv6, not tested"
	case n.Address:
		return "IPv6 that leads nowhere"
	}
	return "no IPv6"
}

// tried counts the pairs of addresses by kind.
func (n noPath) tried() string {
	var parts []string
	total, heard := 0, 0
	for _, network := range []string{"udp4", "udp6", "tcp4", "tcp6"} {
		own, other := kinds{}, kinds{}
		for _, c := range n.Local {
			if c.Network() == network {
				own.add(c)
			}
		}
		for _, a := range n.Tried {
			if a.Candidate.Network() == network {
				other.add(a.Candidate)
				if a.Received > 0 {
					heard++
				}
			}
		}
		if strings.HasPrefix(network, "tcp") { // who dials has no address of its own to offer
			if count := own.total() + other.total(); count > 0 {
				total += count
				parts = append(parts, fmt.Sprintf("%d over %s", count, network))
			}
			continue
		}
		if pairs := own.total() * other.total(); pairs > 0 {
			total += pairs
			parts = append(parts, fmt.Sprintf("%d over %s (%s here, %s there)", pairs, network, own, other))
		}
	}
	if total == 0 {
		return fmt.Sprintf("nothing: the %d addresses here and the %d there have no protocol in common", len(n.Local), len(n.Tried))
	}
	s := fmt.Sprintf("%s of addresses in %.0f s: %s", plural(total, "pair"), n.Elapsed.Round(time.Second).Seconds(), strings.Join(parts, ", "))
	if heard > 0 {
		return s + fmt.Sprintf("; something came from %d of them, but not there and back", heard)
	}
	return s + "; nothing came from any of them"
}

// kinds counts addresses by how they came to be known.
type kinds struct{ local, outside int }

func (k *kinds) add(c link.Candidate) {
	if c.Type == link.CandidateHost {
		k.local++
	} else {
		k.outside++
	}
}

func (k kinds) total() int { return k.local + k.outside }

func (k kinds) String() string {
	switch {
	case k.outside == 0:
		return fmt.Sprintf("%d own", k.local)
	case k.local == 0:
		return fmt.Sprintf("%d outside", k.outside)
	}
	return fmt.Sprintf("%d own and %d outside", k.local, k.outside)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sameOutside is the address from which both are seen, invalid if there is none.
func (n noPath) sameOutside() netip.Addr {
	for _, c := range n.Local {
		if c.Type != link.CandidateSrflx || !c.Addr.Addr().Is4() {
			continue
		}
		for _, a := range n.Tried {
			if a.Candidate.Type == link.CandidateSrflx && a.Candidate.Addr.Addr() == c.Addr.Addr() {
				return c.Addr.Addr()
			}
		}
	}
	return netip.Addr{}
}

// remedy is a step that would help.
type remedy uint8

// The remedies, those that are least trouble first.
const (
	remedyIPv6    remedy = iota // where it is missing
	remedyMapping               // a router that maps ports on request
	remedyForward               // a port that is forwarded by hand, or opened in a firewall
	remedyTCP                   // the same over TCP, for who has no UDP
	remedyVPN                   // both machines in one
	remedySTUN                  // a signaling server whose STUN answers
)

// step is a remedy and where it is to be applied.
type step struct {
	remedy remedy
	atHost bool
}

// best finds the one step that would help most, as far as is known.
func (n noPath) best() (step, bool) {
	if n.NAT == nil || n.PeerNAT == nil || !n.NAT.Known() || !n.PeerNAT.Known() {
		return step{}, false
	}
	host, guest := *n.PeerNAT, *n.NAT
	if n.hosting {
		host, guest = guest, host
	}
	switch {
	case host.UDPBlocked() && guest.UDPBlocked():
		return step{remedySTUN, false}, true // the server is what the two have in common
	case host.UDPBlocked():
		return step{remedyVPN, true}, true
	case guest.UDPBlocked() && host.PortMapping == link.PortMappingMade:
		return step{remedyVPN, false}, true
	case guest.UDPBlocked():
		return step{remedyTCP, true}, true
	case guest.V6.Answered && !host.V6.Address:
		return step{remedyIPv6, true}, true
	case host.V6.Answered && !guest.V6.Address:
		return step{remedyIPv6, false}, true
	case n.sameOutside().IsValid():
		return step{remedyVPN, true}, true
	case host.V4.Mapping == link.MappingNone, host.PortMapping == link.PortMappingRefused:
		return step{remedyForward, true}, true
	case host.PortMapping == link.PortMappingMade: // and it did not help: there is another NAT
		return step{remedyVPN, true}, true
	}
	return step{remedyMapping, true}, true
}

// How a host uses a port that is forwarded.
const (
	forwardCommand = "pairterm host --port 40000"
	tcpCommand     = "pairterm host --tcp-port 443"
)

// turnHint is the last resort.
const turnHint = "or let a TURN server of yours relay: pairterm host --ice-server turn:HOST, and pairterm join TICKET --path any"

// hints tells what to do, for whom the search failed.
func (n noPath) hints() []string {
	if n.Paths == link.PathsLAN {
		return []string{"only private networks were tried, as --path lan says; to try all direct ways, leave it out"}
	}
	hints := n.directHints()
	if h := n.relayHint(); h != "" {
		return append([]string{h}, hints...)
	}
	return hints
}

// relayHint is for those of whom one end would take a relayed path, and the other has not
// agreed. It is empty if that is not so.
func (n noPath) relayHint() string {
	here := n.Paths == link.PathsAny
	switch {
	case n.RelaysThere && n.PeerRelay && !here && n.hosting:
		return "the guest has a TURN server that can relay; to agree: pairterm host --path any"
	case n.RelaysThere && n.PeerRelay && !here:
		return "the host has a TURN server that can relay; to agree: pairterm join TICKET --path any"
	case here && !n.RelaysThere && n.hosting:
		return "to have it relayed the guest must agree: pairterm join TICKET --path any"
	case here && !n.RelaysThere:
		return "to have it relayed the host must agree: pairterm host --path any"
	}
	return ""
}

func (n noPath) directHints() []string {
	const vpn = "put both machines into one VPN, such as WireGuard or Tailscale, and start again: pairterm host"
	s, ok := n.best()
	if !ok {
		return []string{
			"both machines sit behind firewalls or NATs that let nothing through: try from another network, with IPv6, or over a VPN",
			"to find out what this network does: pairterm doctor",
		}
	}
	here := s.atHost == n.hosting
	var first string
	switch s.remedy {
	case remedyIPv6:
		first = "turn on IPv6 in this network, in the router's settings; the other side has it"
		if !here {
			first = fmt.Sprintf("the %s is to turn on IPv6 in its network, in the router's settings; you have it", n.other())
		}
	case remedyMapping:
		if !here {
			return []string{"the host is to turn on UPnP or NAT-PMP in its router's settings and start again: pairterm host",
				"or to forward UDP port 40000 there to its machine: " + forwardCommand}
		}
		return []string{"turn on UPnP or NAT-PMP in your router's settings and start again: pairterm host",
			"or forward UDP port 40000 there to this machine: " + forwardCommand}
	case remedyForward:
		first = "forward UDP port 40000 to this machine, in the router's or firewall's settings, and start again: " + forwardCommand
		if !here {
			first = "the host is to forward UDP port 40000 to its machine, in the router's or firewall's settings, and start again: " + forwardCommand
		}
	case remedyTCP:
		first = "forward TCP port 443 to this machine, since the guest's network blocks UDP, and start again: " + tcpCommand
		if !here {
			first = "the host is to forward TCP port 443 to its machine, since your network blocks UDP, and start again: " + tcpCommand
		}
	case remedyVPN:
		return []string{vpn, turnHint}
	case remedySTUN:
		first = "the signaling server's STUN answers neither side: open 3478/udp and 3479/udp there, or name another with --stun HOST:PORT"
	}
	return []string{first, "or " + vpn}
}

func (n noPath) other() string {
	if n.hosting {
		return "guest"
	}
	return "host"
}

// notice tells it all in one line, for the host's terminal.
func (n noPath) notice() string {
	if n.Paths == link.PathsLAN {
		return "no path between private networks, and --path lan allows no other"
	}
	s, ok := n.best()
	if !ok {
		return "no direct path; to find out why: pairterm doctor"
	}
	best := ""
	switch s.remedy {
	case remedyIPv6:
		best = "IPv6 there"
		if s.atHost == n.hosting {
			best = "IPv6 here"
		}
	case remedyMapping:
		best = "UPnP or NAT-PMP in your router"
	case remedyForward:
		best = forwardCommand + ", forwarded"
	case remedyTCP:
		best = tcpCommand + ", forwarded"
	case remedyVPN:
		best = "a VPN"
	case remedySTUN:
		return "no direct path, and no answer from STUN to either side; open 3478/udp and 3479/udp at the signaling server"
	}
	return fmt.Sprintf("no direct path (you: %s; guest: %s); what helps: %s", inAWord(n.NAT), inAWord(n.PeerNAT), best)
}

// inAWord is describeNetwork in a word or two.
func inAWord(r *link.NATReport) string {
	switch {
	case r == nil || !r.Known():
		return "unknown"
	case r.UDPBlocked():
		return "UDP blocked"
	}
	switch n := r.V4; {
	case !n.Address:
		return "IPv6 only"
	case n.Mapping == link.MappingNone && n.Filtering == link.FilteringPortDependent:
		return "firewall"
	case n.Mapping == link.MappingNone:
		return "no NAT"
	case n.Mapping.Symmetric():
		return "symmetric NAT"
	}
	return "NAT"
}
