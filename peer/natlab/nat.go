//go:build linux

package natlab

import (
	"fmt"
	"net/netip"
	"strings"
)

// NAT is what a router does to IPv4, in the words of RFC 4787.
type NAT int

// The kinds of NAT.
const (
	// Open is a site whose machines have public addresses, in front of which there is
	// nothing.
	Open NAT = iota
	// FullCone has endpoint-independent mapping and filtering.
	FullCone
	// Cone has endpoint-independent mapping, and address-and-port-dependent filtering:
	// the port-restricted cone that Linux routers are.
	Cone
	// Symmetric has address-and-port-dependent mapping, with random ports, and
	// filtering.
	Symmetric
)

// PortMap are protocols by which a router lets machines ask for a mapping.
type PortMap int

// The protocols.
const (
	UPnP PortMap = 1 << iota
	NATPMP
	PCP
)

// Config is the kind of a site.
type Config struct {
	NAT     NAT
	Hairpin bool // machines behind the NAT reach each other by its outer address, over UDP
	NoUDP   bool // the router drops all UDP in silence
	IPv6    bool // besides IPv4: global addresses, behind a firewall that lets nothing new in
	NoIPv4  bool // with IPv6: nothing but that
	Blind6  bool // with IPv6: the router drops all of it in silence
	Rejects bool // the router answers what it does not let in with errors
	PortMap PortMap
	Carrier *Carrier // the site's provider is a NAT, too
	MTU     int      // of its access to the internet, which nobody is told who sends more; 0 for 1,500
	LAN     int      // 192.168.LAN.0/24 is its network, as others' may be; 0 picks one of its own
}

// Machines use the ports from firstPort on, portsEach of them each, so that a NAT that
// keeps ports never finds one taken. A shifted NAT adds portShift instead.
const (
	firstPort = 10000
	portsEach = 400
	portShift = 25000
)

// rules is the nftables script of a NAT whose outer device is called wan and has the
// address ip. A NAT that keeps ports maps them portShift higher while shift is odd.
//
// The kernel tracks a connection for each destination, so the mapping is endpoint
// independent just because the port is kept, or shifted. What is not asked for is
// dropped in silence also if it is for the router itself: an answer would make a
// connection of it, which would take the port that an inner machine's packets to the
// same peer need.
func (c Config) rules(ip netip.Addr, shift int) string {
	var (
		pre, input, output, forward, post []string
		ports                             []string
	)
	masquerade := "masquerade"
	switch {
	case c.NAT == Symmetric:
		masquerade = "masquerade fully-random"
	case shift%2 != 0:
		for p := firstPort; p < firstPort+portShift; p++ {
			ports = append(ports, fmt.Sprintf("%d : %d", p, p+portShift))
		}
		post = append(post, `meta nfproto ipv4 oifname "wan" meta l4proto udp masquerade to : udp sport map @shifted`)
	}
	post = append(post, `meta nfproto ipv4 oifname "wan" `+masquerade)
	if c.NoUDP {
		forward = append(forward, "meta l4proto udp drop")
	}
	if c.NAT == FullCone || c.Hairpin {
		forward = append(forward, `iifname != "wan" oifname "wan" meta l4proto udp update @mapped { udp sport : ip saddr }`)
	}
	if c.NAT == FullCone {
		pre = append(pre, `iifname "wan" dnat ip to udp dport map @mapped`)
	}
	if c.Hairpin {
		pre = append(pre, fmt.Sprintf(`iifname != "wan" ip daddr %v dnat ip to udp dport map @mapped`, ip))
		post = append(post, fmt.Sprintf(`oifname != "wan" ct status dnat snat ip to %v`, ip))
	}
	forward = append(forward,
		`meta nfproto ipv4 iifname "wan" ct state new ct status & dnat == 0 drop`,
		`meta nfproto ipv4 iifname != "wan" oifname != "wan" ct status & dnat == 0 drop`)
	if c.Blind6 {
		forward = append(forward, "meta nfproto ipv6 drop")
	}
	if c.IPv6 {
		forward = append(forward, `meta nfproto ipv6 iifname "wan" ct state new drop`)
	}
	unasked := "drop"
	if c.Rejects {
		unasked = "reject"
	}
	input = append(input, `iifname "wan" meta l4proto != { icmp, ipv6-icmp } ct state new `+unasked)
	if c.PortMap&NATPMP == 0 {
		input = append(input, "udp dport 5351 @th,64,8 0 drop") // its version
	}
	if c.PortMap&PCP == 0 {
		input = append(input, "udp dport 5351 @th,64,8 2 drop")
	}
	if c.MTU != 0 {
		output = append(output, "icmp type destination-unreachable drop", "icmpv6 type packet-too-big drop")
		// What keeps TCP going in such networks.
		forward = append(forward, fmt.Sprintf("tcp flags syn tcp option maxseg size set %d", c.MTU-60))
	}
	var shifted string
	if ports != nil {
		shifted = "elements = { " + strings.Join(ports, ", ") + " }"
	}
	return fmt.Sprintf(`
flush ruleset
table inet natlab {
	map mapped { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 5m; size 65535; }
	map shifted { type inet_service : inet_service; %s
	}
	chain prerouting { type nat hook prerouting priority dstnat;
		jump prerouting_miniupnpd
		%s
	}
	chain input { type filter hook input priority filter;
		%s
	}
	chain output { type filter hook output priority filter;
		%s
	}
	chain forward { type filter hook forward priority filter;
		jump miniupnpd
		%s
	}
	chain postrouting { type nat hook postrouting priority srcnat;
		jump postrouting_miniupnpd
		%s
	}
	chain miniupnpd { }
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
}
`, shifted, lines(pre), lines(input), lines(output), lines(forward), lines(post))
}

func lines(rules []string) string { return strings.Join(rules, "\n\t\t") }
