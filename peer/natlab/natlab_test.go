//go:build linux

package natlab_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pairterm/pairterm/peer/natlab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen opens a UDP socket at a machine.
func listen(t *testing.T, m *natlab.Machine, network string, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := m.Do(func() (err error) {
		c, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echo answers each datagram with its source address.
func echo(t *testing.T, c *net.UDPConn) netip.AddrPort {
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort([]byte(from.String()), from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// ask sends datagrams until there is an answer, and returns it; empty for none.
func ask(c *net.UDPConn, to netip.AddrPort) string {
	buf := make([]byte, 64)
	for range 10 {
		c.WriteToUDPAddrPort([]byte("?"), to)
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				break
			}
			if from == to {
				return string(buf[:n])
			}
		}
	}
	return ""
}

// hears reports whether a datagram that from sends to an address arrives at c.
func hears(c, from *net.UDPConn, to netip.AddrPort) bool {
	buf := make([]byte, 64)
	for range 10 {
		from.WriteToUDPAddrPort([]byte("unasked"), to)
		c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		for {
			n, _, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				break
			}
			if string(buf[:n]) == "unasked" {
				return true
			}
		}
	}
	return false
}

// TestKinds proves what each kind of site does to UDP.
func TestKinds(t *testing.T) {
	lab := natlab.New(t)
	any4 := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	one := echo(t, listen(t, lab.Server, "udp4", netip.AddrPortFrom(natlab.ServerIPv4, 7001)))
	two := echo(t, listen(t, lab.Server, "udp4", netip.AddrPortFrom(natlab.ServerIPv4, 7002)))
	stranger := listen(t, lab.Server, "udp4", netip.AddrPortFrom(natlab.ServerIPv4, 7003))
	carrier := lab.Carrier("carrier", natlab.Config{NAT: natlab.Cone})
	for _, k := range []struct {
		name                     string
		cfg                      natlab.Config
		udp, same, open, hairpin bool // UDP passes; one mapping for all; strangers' pass; hairpin
	}{
		{"open", natlab.Config{}, true, true, true, false},
		{"full cone", natlab.Config{NAT: natlab.FullCone}, true, true, true, false},
		{"cone", natlab.Config{NAT: natlab.Cone}, true, true, false, false},
		{"hairpin", natlab.Config{NAT: natlab.Cone, Hairpin: true}, true, true, false, true},
		{"symmetric", natlab.Config{NAT: natlab.Symmetric}, true, false, false, false},
		{"no UDP", natlab.Config{NAT: natlab.Cone, NoUDP: true}, false, false, false, false},
		{"carrier", natlab.Config{NAT: natlab.Cone, Carrier: carrier}, true, true, false, false},
	} {
		t.Run(k.name, func(t *testing.T) {
			site := lab.Site(k.name, k.cfg)
			a, b := site.Machine(k.name+" a"), site.Machine(k.name+" b")
			c := listen(t, a, "udp4", any4)
			m1, m2 := ask(c, one), ask(c, two)
			if (m1 != "") != k.udp {
				t.Fatalf("asking the server gave %q", m1)
			}
			if !k.udp {
				return
			}
			mapped := netip.MustParseAddrPort(m1)
			if inner := a.IPv4() != mapped.Addr(); inner != (k.cfg.NAT != natlab.Open) {
				t.Errorf("%v is seen as %v", a.IPv4(), mapped)
			}
			if (m1 == m2) != k.same {
				t.Errorf("mapped to %s and %s", m1, m2)
			}
			if got := hears(c, stranger, mapped); got != k.open {
				t.Errorf("a stranger's datagram arrives: %v", got)
			}
			d := listen(t, b, "udp4", any4)
			ask(d, one)
			if got := hears(c, d, mapped); got != k.hairpin && k.cfg.NAT != natlab.Open {
				t.Errorf("hairpin: %v", got)
			}
			if at := netip.AddrPortFrom(a.IPv4(), c.LocalAddr().(*net.UDPAddr).AddrPort().Port()); !hears(c, d, at) {
				t.Errorf("the machines do not reach each other at %v", at)
			}
			if k.cfg.NAT != natlab.Cone || k.cfg.Hairpin || k.cfg.Carrier != nil {
				return
			}
			site.Remap()
			m3, m4 := ask(c, one), ask(c, two)
			if m3 == m1 || m3 != m4 || m3 == "" {
				t.Errorf("before %s, remapped to %s and %s", m1, m3, m4)
			}
			site.PowerOff()
			if got := ask(c, one); got != "" {
				t.Errorf("an answer without a router: %s", got)
			}
			site.PowerOn()
			back := ""
			for range 20 { // the kernel may wait seconds before it asks for the router anew
				if back = ask(c, one); back != "" {
					break
				}
			}
			if back == "" {
				t.Error("no answer after the router's reboot")
			}
			site.Forward(4000, a)
			f := listen(t, a, "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), 4000))
			if !hears(f, stranger, netip.AddrPortFrom(site.PublicIPv4(), 4000)) {
				t.Error("the forwarded port is closed")
			}
		})
	}
}

// TestIPv6 proves that the firewall lets answers in, and nothing else.
func TestIPv6(t *testing.T) {
	lab := natlab.New(t)
	any6 := netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	one := echo(t, listen(t, lab.Server, "udp6", netip.AddrPortFrom(natlab.ServerIPv6, 7001)))
	stranger := listen(t, lab.Server, "udp6", netip.AddrPortFrom(natlab.ServerIPv6, 7003))
	carrier := lab.Carrier("carrier", natlab.Config{NAT: natlab.Cone, IPv6: true})
	for _, cfg := range []natlab.Config{
		{IPv6: true, NoIPv4: true},
		{NAT: natlab.Symmetric, IPv6: true},
		{NAT: natlab.Cone, IPv6: true, Carrier: carrier},
	} {
		site := lab.Site("six", cfg)
		m := site.Machine("six")
		c := listen(t, m, "udp6", any6)
		seen := ask(c, one)
		if seen == "" {
			t.Fatalf("%+v: no answer", cfg)
		}
		if a := netip.MustParseAddrPort(seen); a.Addr() != m.IPv6() {
			t.Errorf("%+v: %v is seen as %v", cfg, m.IPv6(), a)
		}
		if hears(c, stranger, netip.MustParseAddrPort(seen)) {
			t.Errorf("%+v: a stranger's datagram arrives", cfg)
		}
		if cfg.NoIPv4 && m.IPv4().IsValid() {
			t.Errorf("%+v: the machine has %v", cfg, m.IPv4())
		}
	}
}

// TestMoves proves that machines change networks, and that names and processes are the
// lab's own.
func TestMoves(t *testing.T) {
	lab := natlab.New(t)
	one := echo(t, listen(t, lab.Server, "udp4", netip.AddrPortFrom(natlab.ServerIPv4, 7001)))
	home, cafe := lab.Site("home", natlab.Config{NAT: natlab.Cone}), lab.Site("café", natlab.Config{NAT: natlab.Cone})
	m := home.Machine("laptop")
	c := listen(t, m, "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	at := func(s *natlab.Site) {
		t.Helper()
		got := ask(c, one)
		if a, err := netip.ParseAddrPort(got); err != nil || a.Addr() != s.PublicIPv4() {
			t.Errorf("seen as %q, want %v", got, s.PublicIPv4())
		}
	}
	at(home)
	dev := m.Plug(cafe)
	at(cafe)
	m.Unplug(dev)
	at(home)

	cmd := exec.Command("sh", "-c", "cat /etc/hosts; ip -o addr")
	var out strings.Builder
	cmd.Stdout = &out
	if err := m.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{natlab.ServerName, m.IPv4().String()} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}

// TestPortMap proves that the real miniupnpd works in a router: each protocol is
// answered where it is to be, and a mapping lets strangers in.
func TestPortMap(t *testing.T) {
	lab := natlab.New(t)
	stranger := listen(t, lab.Server, "udp4", netip.AddrPortFrom(natlab.ServerIPv4, 7003))
	for _, k := range []natlab.PortMap{natlab.NATPMP, natlab.PCP, natlab.UPnP, natlab.UPnP | natlab.NATPMP | natlab.PCP} {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			site := lab.Site("mapped", natlab.Config{NAT: natlab.Symmetric, PortMap: k})
			m := site.Machine("m")
			c := listen(t, m, "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
			gateway := m.IPv4().As4()
			gateway[3] = 1
			answer := make([]byte, 1100)
			// What is to be answered may take a busy machine a while.
			tries := func(protocol natlab.PortMap) int {
				if k&protocol != 0 {
					return 100
				}
				return 5
			}
			pmp := func(request []byte, protocol natlab.PortMap) bool {
				buf := answer
				for range tries(protocol) {
					c.WriteToUDPAddrPort(request, netip.AddrPortFrom(netip.AddrFrom4(gateway), 5351))
					c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
					if n, _, err := c.ReadFromUDPAddrPort(buf); err == nil && n >= 4 && buf[0] == request[0] && buf[3] == 0 {
						return true
					}
				}
				return false
			}
			// RFC 6886 section 3.2
			if got := pmp([]byte{0, 0}, natlab.NATPMP); got != (k&natlab.NATPMP != 0) {
				t.Errorf("NAT-PMP answers: %v", got)
			}
			if k&natlab.NATPMP != 0 {
				// RFC 6886 section 3.3: a mapping for UDP, on any port, for an hour.
				request := []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x0e, 0x10}
				binary.BigEndian.PutUint16(request[4:], c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
				if !pmp(request, natlab.NATPMP) {
					t.Fatalf("no mapping: %x", answer[:16])
				}
				if !hears(c, stranger, netip.AddrPortFrom(site.PublicIPv4(), binary.BigEndian.Uint16(answer[10:]))) {
					t.Error("nothing comes through the mapping")
				}
			}
			// RFC 6887 section 14.1: ANNOUNCE
			announce := make([]byte, 24)
			announce[0], announce[18], announce[19] = 2, 0xff, 0xff
			inner := m.IPv4().As4()
			copy(announce[20:], inner[:])
			if got := pmp(announce, natlab.PCP); got != (k&natlab.PCP != 0) {
				t.Errorf("PCP answers: %v", got)
			}
			search := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
			found := false
			buf := make([]byte, 1500)
			for range tries(natlab.UPnP) {
				c.WriteToUDPAddrPort([]byte(search), netip.MustParseAddrPort("239.255.255.250:1900"))
				c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				if n, _, err := c.ReadFromUDPAddrPort(buf); err == nil && strings.Contains(string(buf[:n]), "LOCATION") {
					found = true
					break
				}
			}
			if found != (k&natlab.UPnP != 0) {
				t.Errorf("UPnP answers: %v", found)
			}
		})
	}
}
