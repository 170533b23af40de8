//go:build linux

package natlab

import (
	"fmt"
	"net/netip"
)

// Site is a home or an office: a router, and the machines on its LAN. If it is Open, its
// machines are each connected to the internet directly.
type Site struct {
	lab    *Lab
	name   string
	cfg    Config
	index  int   // numbers its LAN
	router *node // nil if Open
	wan    line
	upnp   *daemon // nil without Config.PortMap

	// Owned by the test's goroutine.
	ports    []string // the router's devices towards machines
	machines int
	remapped int
}

// Site adds a site.
func (l *Lab) Site(name string, cfg Config) *Site {
	l.tb.Helper()
	provider := l.backbone
	if cfg.Carrier != nil {
		provider = cfg.Carrier.isp
	}
	s := &Site{lab: l, name: name, cfg: cfg}
	if cfg.NAT == Open && !cfg.IPv6 {
		return s
	}
	s.wan = provider.next(!cfg.NoIPv4, cfg.IPv6)
	l.sites++
	s.index = cfg.LAN
	if s.index == 0 {
		s.index = 100 + l.sites
	}
	var err error
	s.router, err = l.newNode(name + "'s router")
	l.check(err)
	l.check(s.router.sysctl("ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"))
	s.wan, err = provider.connect(s.router, "wan", s.wan)
	l.check(err)
	// A LAN's own packets are no business of the router's filters. Without the kernel's
	// module for that there is nothing to switch off.
	_ = s.router.sysctl("bridge/bridge-nf-call-iptables=0", "bridge/bridge-nf-call-ip6tables=0")
	l.check(s.router.ip("link add lan type bridge", "link set lan up"))
	if !cfg.NoIPv4 {
		l.check(s.router.ip(fmt.Sprintf("addr add %v/24 dev lan", s.lan4(1))))
	}
	if cfg.IPv6 {
		l.check(s.router.ip(fmt.Sprintf("addr add %v/64 dev lan nodad", s.lan6(1))))
	}
	if cfg.MTU != 0 {
		l.check(s.router.ip(fmt.Sprintf("link set wan mtu %d", cfg.MTU)))
		l.check(s.wan.isp.ip(fmt.Sprintf("link set %s mtu %d", s.wan.port, cfg.MTU)))
	}
	l.check(s.powerUp())
	return s
}

// lan4 is an address on the LAN.
func (s *Site) lan4(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, byte(s.index), byte(host)})
}

// lan6 is one in the LAN's prefix, the first of the site's after that of the router.
func (s *Site) lan6(host int) netip.Addr {
	b := s.wan.prefix6.Masked().Addr().As16()
	b[7], b[15] = 1, byte(host)
	return netip.AddrFrom16(b)
}

// PublicIPv4 is the address that the internet sees the site at; not for Open ones, whose
// machines each have their own.
func (s *Site) PublicIPv4() netip.Addr {
	if s.cfg.Carrier != nil {
		return s.cfg.Carrier.ipv4
	}
	return s.wan.ipv4
}

// powerUp loads the router's rules and starts its port-mapping daemon.
func (s *Site) powerUp() error {
	if err := s.router.nft(s.cfg.rules(s.wan.ipv4, s.remapped)); err != nil {
		return err
	}
	if s.cfg.PortMap == 0 {
		return nil
	}
	var err error
	s.upnp, err = s.startUPnP()
	return err
}

// PowerOff takes the router's power: it forgets its connections, and everybody's link
// to it goes down.
func (s *Site) PowerOff() {
	s.lab.tb.Helper()
	if s.upnp != nil {
		s.upnp.kill()
	}
	commands := make([]string, len(s.ports))
	for i, p := range s.ports {
		commands[i] = "link set " + p + " down"
	}
	s.lab.check(s.wan.down())
	s.lab.check(s.router.ip(commands...))
	s.lab.check(s.router.nft("flush ruleset"))
	s.lab.check(s.forget())
}

// PowerOn boots the router after PowerOff.
func (s *Site) PowerOn() {
	s.lab.tb.Helper()
	s.lab.check(s.powerUp())
	s.lab.check(s.wan.up())
	commands := make([]string, len(s.ports))
	for i, p := range s.ports {
		commands[i] = "link set " + p + " up"
	}
	s.lab.check(s.router.ip(commands...))
}

// Remap has the router forget its connections, and use other ports for them from now
// on, as when a mapping's time is up or a carrier's NAT fails over.
func (s *Site) Remap() {
	s.lab.tb.Helper()
	s.remapped++
	s.lab.check(s.router.nft(s.cfg.rules(s.wan.ipv4, s.remapped)))
	s.lab.check(s.forget())
}

// forget flushes the router's table of connections.
func (s *Site) forget() error { return s.router.feed("", "conntrack", "-F") }

// Forward has the router pass a port, UDP and TCP, on to a machine's.
func (s *Site) Forward(port int, m *Machine) {
	s.lab.tb.Helper()
	s.lab.check(s.router.nft(fmt.Sprintf(
		`insert rule inet natlab prerouting iifname "wan" meta l4proto { tcp, udp } th dport %d dnat ip to %v`, port, m.ipv4)))
}

// Machine is a computer.
type Machine struct {
	*node
	ipv4 netip.Addr // in the first network that it joined
	ipv6 netip.Addr // likewise
	devs int
}

// IPv4 is the machine's own address in the network where it was made, invalid if it has
// none.
func (m *Machine) IPv4() netip.Addr { return m.ipv4 }

// IPv6 is its global IPv6 address there, invalid if it has none.
func (m *Machine) IPv6() netip.Addr { return m.ipv6 }

// Machine adds a computer to the site.
func (s *Site) Machine(name string) *Machine {
	s.lab.tb.Helper()
	n, err := s.lab.newNode(name)
	s.lab.check(err)
	m := &Machine{node: n}
	first := firstPort + portsEach*s.lab.machines
	s.lab.machines++
	if first >= firstPort+portShift {
		s.lab.tb.Fatal("natlab: too many machines")
	}
	s.lab.check(n.sysctl(fmt.Sprintf("ipv4/ip_local_port_range=%d %d", first, first+portsEach-1)))
	m.Plug(s)
	return m
}

// Plug connects the machine to a site over a new device, whose name it returns. The
// network that was joined last is the one that packets take to the internet.
func (m *Machine) Plug(s *Site) string {
	m.lab.tb.Helper()
	return m.plug(s, 100-m.devs)
}

// PlugBeside does the same, but packets to the internet go on taking the network that they
// take now.
func (m *Machine) PlugBeside(s *Site) string {
	m.lab.tb.Helper()
	return m.plug(s, 200)
}

func (m *Machine) plug(s *Site, metric int) string {
	m.lab.tb.Helper()
	dev := fmt.Sprintf("eth%d", m.devs)
	m.devs++
	if s.router == nil {
		l, err := m.lab.backbone.connect(m.node, dev, m.lab.backbone.next(true, false))
		m.lab.check(err)
		note(&m.ipv4, l.ipv4)
		return dev
	}
	s.machines++
	host := 9 + s.machines
	port := fmt.Sprintf("lan%d", s.machines)
	s.ports = append(s.ports, port)
	m.lab.check(s.router.ip(
		fmt.Sprintf("link add %s type veth peer name %s netns %s", port, dev, m.path()),
		fmt.Sprintf("link set %s master lan up", port)))
	commands := []string{"link set " + dev + " up"}
	if !s.cfg.NoIPv4 {
		note(&m.ipv4, s.lan4(host))
		commands = append(commands,
			fmt.Sprintf("addr add %v/24 dev %s", s.lan4(host), dev),
			fmt.Sprintf("route add default via %v dev %s metric %d", s.lan4(1), dev, metric))
	}
	if s.cfg.IPv6 {
		note(&m.ipv6, s.lan6(host))
		commands = append(commands,
			fmt.Sprintf("addr add %v/64 dev %s nodad", s.lan6(host), dev),
			fmt.Sprintf("route add default via %v dev %s metric %d", s.lan6(1), dev, metric))
	}
	m.lab.check(m.ip(commands...))
	return dev
}

// note sets the first address.
func note(first *netip.Addr, a netip.Addr) {
	if !first.IsValid() {
		*first = a
	}
}

// Unplug removes a device, with its addresses and routes.
func (m *Machine) Unplug(dev string) {
	m.lab.tb.Helper()
	m.lab.check(m.ip("link del " + dev))
}
