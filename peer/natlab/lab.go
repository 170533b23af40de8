//go:build linux

package natlab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// The server of every lab has these addresses, and this name for them.
var (
	ServerName = "signal.example.org"
	ServerIPv4 = netip.MustParseAddr("203.0.113.1")
	ServerIPv6 = netip.MustParseAddr("2001:db8:ffff::1")
)

// Lab is one internet: a backbone, a server, and the sites that are added.
type Lab struct {
	// Server is a machine with a public address in each family, without a firewall.
	Server *Machine

	// Set once.
	tb       testing.TB
	etc      string // a directory with what programs find in /etc
	backbone *isp
	launches chan func() // run by the thread that is the parent of all processes

	// Owned by the test's goroutine.
	nodes    []*node
	machines int
	carriers int
	sites    int
}

// New builds a lab with nothing but its server. It is removed at the end of the test,
// which must not use it from several goroutines but for Start and Do. Where labs cannot
// be built the test is skipped, with the reason.
func New(tb testing.TB) *Lab {
	tb.Helper()
	for _, program := range []string{"ip", "nft", "conntrack"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("natlab: %s is not here", program)
		}
	}
	if os.Getuid() != 0 {
		tb.Skip("natlab: network namespaces take root")
	}
	l := &Lab{tb: tb, etc: tb.TempDir(), launches: make(chan func())}
	l.start()
	if why := l.permitted(); why != nil {
		tb.Skipf("natlab: this system does not permit it: %v", why)
	}
	l.check(l.build())
	return l
}

// check fails the test.
func (l *Lab) check(err error) {
	l.tb.Helper()
	if err != nil {
		l.tb.Fatalf("natlab: %v", err)
	}
}

// start begins what the end of the test ends.
func (l *Lab) start() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Processes die with the thread that started them, so it lives as long as the lab.
		runtime.LockOSThread()
		for fn := range l.launches {
			fn()
		}
	}()
	l.tb.Cleanup(func() {
		close(l.launches)
		<-ended
		for _, n := range l.nodes {
			_ = n.file.Close() // only an open file
		}
	})
}

// launch runs fn on the thread that is the parent of all processes.
func (l *Lab) launch(fn func() error) error {
	done := make(chan error)
	l.launches <- func() { done <- fn() }
	return <-done
}

// permitted finds out whether the system has what labs are made of.
func (l *Lab) permitted() error {
	for name, content := range map[string]string{
		"resolv.conf": "",
		"hosts":       fmt.Sprintf("127.0.0.1 localhost\n%v %s\n%v %s\n", ServerIPv4, ServerName, ServerIPv6, ServerName),
	} {
		if err := os.WriteFile(filepath.Join(l.etc, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	n, err := l.newNode("probe")
	if err != nil {
		return err
	}
	if err := n.ip("link add lan type bridge", "link add wan type veth peer name other"); err != nil {
		return err
	}
	return n.nft(Config{NAT: FullCone, Hairpin: true, IPv6: true}.rules(ServerIPv4, 0))
}

func (l *Lab) build() error {
	core, err := l.newNode("backbone")
	if err != nil {
		return err
	}
	l.backbone = &isp{
		node:    core,
		gateway: netip.MustParseAddr("203.0.113.254"),
		// Never routed to anybody in the world, yet not reserved: port-mapping routers
		// refuse to work behind an address that is.
		customers: netip.MustParsePrefix("1.2.3.0/24"),
		prefix:    func(n int) netip.Prefix { return prefix6("2001:db8:%x::/48", n) },
	}
	if err := l.backbone.forward(); err != nil {
		return err
	}
	n, err := l.newNode("server")
	if err != nil {
		return err
	}
	l.Server = &Machine{node: n}
	_, err = l.backbone.connect(n, "eth0", line{ipv4: ServerIPv4, prefix6: netip.PrefixFrom(ServerIPv6, 48)})
	return err
}

func prefix6(format string, args ...any) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf(format, args...))
}

// isp is a node that gives others access to the internet: the backbone, or a carrier.
type isp struct {
	*node
	gateway   netip.Addr               // its IPv4 address towards customers
	customers netip.Prefix             // where customers' IPv4 addresses are from
	prefix    func(n int) netip.Prefix // customer n's IPv6 prefix
	count     int
}

// forward makes the node a router.
func (p *isp) forward() error {
	if err := p.sysctl("ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1", "ipv4/conf/all/send_redirects=0", "ipv4/conf/default/send_redirects=0"); err != nil {
		return err
	}
	return p.ip("addr add " + p.gateway.String() + "/32 dev lo")
}

// line is a customer's access to the internet.
type line struct {
	isp     *isp
	port    string       // the device at the provider's end
	ipv4    netip.Addr   // the customer's address; invalid for none
	prefix6 netip.Prefix // the customer's prefix; invalid for none
}

// connect gives a node access over a new device, with the addresses that want has. The
// first address of an IPv6 prefix is the node's own.
func (p *isp) connect(customer *node, dev string, want line) (line, error) {
	p.count++
	want.isp, want.port = p, fmt.Sprintf("to%d", p.count)
	if err := p.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s", want.port, dev, customer.path())); err != nil {
		return want, err
	}
	commands := []string{"link set " + dev + " up"}
	if want.ipv4.IsValid() {
		commands = append(commands,
			fmt.Sprintf("addr add %v/32 dev %s", want.ipv4, dev),
			fmt.Sprintf("route add default via %v dev %s onlink", p.gateway, dev))
	}
	if want.prefix6.IsValid() {
		commands = append(commands,
			fmt.Sprintf("addr add fe80::2/64 dev %s nodad", dev),
			fmt.Sprintf("addr add %v/128 dev %s nodad", want.prefix6.Addr(), dev),
			fmt.Sprintf("route add default via fe80::1 dev %s", dev))
	}
	if err := want.up(); err != nil {
		return want, err
	}
	return want, customer.ip(commands...)
}

// next gives addresses to connect another customer with.
func (p *isp) next(ipv4, ipv6 bool) line {
	var l line
	n := p.count + 1
	if ipv4 {
		a := p.customers.Addr().As4()
		a[3] = byte(n)
		l.ipv4 = netip.AddrFrom4(a)
	}
	if ipv6 {
		l.prefix6 = p.prefix(n)
		l.prefix6 = netip.PrefixFrom(l.prefix6.Addr().Next(), l.prefix6.Bits())
	}
	return l
}

// up takes the line into use at the provider's end.
func (l line) up() error {
	commands := []string{"link set " + l.port + " up"}
	if l.ipv4.IsValid() {
		commands = append(commands, fmt.Sprintf("route replace %v/32 dev %s", l.ipv4, l.port))
	}
	if l.prefix6.IsValid() {
		commands = append(commands,
			fmt.Sprintf("addr replace fe80::1/64 dev %s nodad", l.port),
			fmt.Sprintf("route replace %v via fe80::2 dev %s", l.prefix6.Masked(), l.port))
	}
	return l.isp.ip(commands...)
}

// down cuts the line at the provider's end.
func (l line) down() error { return l.isp.ip("link set " + l.port + " down") }

// Carrier is a provider that has its customers share its address.
type Carrier struct {
	isp  *isp
	ipv4 netip.Addr // outside
}

// Carrier adds a carrier-grade NAT, for Config.Carrier. Of cfg, NAT and Hairpin count,
// and IPv6, which it passes on without a filter.
func (l *Lab) Carrier(name string, cfg Config) *Carrier {
	l.tb.Helper()
	n, err := l.newNode(name)
	l.check(err)
	l.carriers++
	index := l.carriers
	wan, err := l.backbone.connect(n, "wan", l.backbone.next(true, cfg.IPv6))
	l.check(err)
	p := &isp{
		node:      n,
		gateway:   netip.AddrFrom4([4]byte{100, 64, byte(index), 254}),
		customers: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(index), 0}), 24),
		prefix: func(n int) netip.Prefix {
			b := wan.prefix6.Masked().Addr().As16()
			b[6] = byte(n)
			return netip.PrefixFrom(netip.AddrFrom16(b), 56)
		},
	}
	l.check(p.forward())
	cfg.IPv6 = false // no filter
	l.check(n.nft(cfg.rules(wan.ipv4, 0)))
	return &Carrier{p, wan.ipv4}
}
