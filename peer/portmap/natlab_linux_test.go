package portmap

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/natlab"
)

// actor is a helper at a machine of a lab.
type actor struct {
	t     *testing.T
	input io.WriteCloser
	lines chan string
}

func play(t *testing.T, m *natlab.Machine, role string) *actor {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), helperEnv+"="+role)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(cmd); err != nil {
		t.Fatal(err)
	}
	a := &actor{t, in, make(chan string, 100)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			a.lines <- lines.Text()
		}
		close(a.lines)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		<-ended
	})
	return a
}

// expect waits for a line, which must match, and gives the first group.
func (a *actor) expect(pattern string) string {
	a.t.Helper()
	select {
	case line, ok := <-a.lines:
		groups := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(line)
		if !ok || groups == nil {
			a.t.Fatalf("%q, want %q", line, pattern)
		}
		return groups[len(groups)-1]
	case <-time.After(30 * time.Second):
		a.t.Fatalf("nothing, want %q", pattern)
	}
	return ""
}

func (a *actor) tell(line string) {
	a.t.Helper()
	if _, err := fmt.Fprintln(a.input, line); err != nil {
		a.t.Fatal(err)
	}
}

// expectEcho checks whether what a machine sends to an address over UDP or TCP comes back.
// What is to come is waited for; what is not, for a moment.
func expectEcho(t *testing.T, from *natlab.Machine, network string, to netip.AddrPort, want bool) {
	t.Helper()
	patience := time.Second
	if want {
		patience = 20 * time.Second
	}
	heard := false
	err := from.Do(func() error {
		c, err := net.DialTimeout(network, to.String(), patience)
		if err != nil {
			return nil // closed
		}
		defer c.Close()
		buf := make([]byte, 16)
		for end := time.Now().Add(patience); !heard && time.Now().Before(end); {
			if _, err := c.Write([]byte("hello")); err != nil {
				return nil
			}
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			n, err := c.Read(buf)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			heard = n >= 5 && string(buf[:5]) == "hello"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if heard != want {
		t.Errorf("what comes to %s %v arrives: %v, want %v", network, to, heard, want)
	}
}

var protocolsOf = map[Protocol]natlab.PortMap{PCP: natlab.PCP, NATPMP: natlab.NATPMP, UPnP: natlab.UPnP}

// TestMiniupnpd has the real daemon in a router whose NAT lets nothing in: with each
// protocol a mapping is made, what strangers send comes through it, it is renewed, it is
// known to be lost when the router has been off, it is made again, and it is gone when it
// has been removed.
func TestMiniupnpd(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	for protocol, k := range protocolsOf {
		t.Run(protocol.String(), func(t *testing.T) {
			site := lab.Site("home", natlab.Config{NAT: natlab.Symmetric, PortMap: k})
			a := play(t, site.Machine("host"), protocol.String())
			a.expect(`open <nil>`)
			a.tell("add")
			external := netip.MustParseAddrPort(a.expect(`add (\S+) 20m0s <nil>`))
			if external.Addr() != site.PublicIPv4() {
				t.Errorf("external address %v, want one at %v", external, site.PublicIPv4())
			}
			expectEcho(t, lab.Server, "udp4", external, true)
			a.tell("add")
			a.expect(`add ` + regexp.QuoteMeta(external.String()) + ` 20m0s <nil>`)
			a.tell("check")
			a.expect(`check true <nil>`)

			a.tell("age")
			a.expect(`age <nil>`)
			site.PowerOff()
			site.PowerOn()
			expectEcho(t, lab.Server, "udp4", external, false)
			a.tell("check")
			a.expect(`check false <nil>`)
			a.tell("add")
			external = netip.MustParseAddrPort(a.expect(`add (\S+) 20m0s <nil>`))
			expectEcho(t, lab.Server, "udp4", external, true)
			a.tell("remove")
			a.expect(`remove <nil>`)
			expectEcho(t, lab.Server, "udp4", external, false)
		})
	}
}

// TestPinhole has the real daemon open an IPv6 firewall.
func TestPinhole(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	site := lab.Site("home", natlab.Config{NAT: natlab.Symmetric, IPv6: true, PortMap: natlab.PCP})
	a := play(t, site.Machine("host"), "PCP6")
	own := netip.MustParseAddrPort(a.expect(`(.*)`))
	a.expect(`open <nil>`)
	expectEcho(t, lab.Server, "udp6", own, false)
	a.tell("add")
	a.expect(`add ` + regexp.QuoteMeta(own.String()) + ` 20m0s <nil>`)
	expectEcho(t, lab.Server, "udp6", own, true)
	a.tell("check")
	a.expect(`check true <nil>`)
	a.tell("remove")
	a.expect(`remove <nil>`)
	expectEcho(t, lab.Server, "udp6", own, false)
}

// mapped is a line of a client that tells of a mapping.
var mapped = regexp.MustCompile(`^(\S+) \[(\S+)\] true$`)

// TestClientAtMiniupnpd has a Client use whatever the router speaks, for UDP and TCP, and
// leave nothing behind.
func TestClientAtMiniupnpd(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	for _, k := range []natlab.PortMap{natlab.NATPMP, natlab.PCP, natlab.UPnP, natlab.UPnP | natlab.NATPMP | natlab.PCP} {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			site := lab.Site("home", natlab.Config{NAT: natlab.Symmetric, PortMap: k})
			a := play(t, site.Machine("host"), "client")
			external := make(map[string]netip.AddrPort)
			for len(external) < 2 {
				if line := mapped.FindStringSubmatch(a.expect(`(.*)`)); line != nil {
					external[line[1]] = netip.MustParseAddrPort(line[2])
				}
			}
			for network, addr := range external {
				expectEcho(t, lab.Server, network, addr, true)
			}
			a.tell("end")
			for range 2 {
				a.expect(`(\S+) \[\] false`)
			}
			a.expect(`ended <nil>`)
			for network, addr := range external {
				expectEcho(t, lab.Server, network, addr, false)
			}
		})
	}
}

// TestProbeAtMiniupnpd tells what the real daemon speaks.
func TestProbeAtMiniupnpd(t *testing.T) {
	t.Parallel()
	lab := natlab.New(t)
	all := natlab.UPnP | natlab.NATPMP | natlab.PCP
	machine := func(k natlab.PortMap) *natlab.Machine {
		return lab.Site("home", natlab.Config{NAT: natlab.Cone, PortMap: k}).Machine("host")
	}
	// One that speaks nothing takes seconds, so they are all asked at the same time.
	probes := make(map[natlab.PortMap]*actor)
	for _, k := range []natlab.PortMap{0, natlab.PCP, natlab.NATPMP, natlab.UPnP, all} {
		probes[k] = play(t, machine(k), "probe")
	}
	for k, a := range probes {
		var report Report
		line := a.expect(`(.*)`)
		if err := json.Unmarshal([]byte(line), &report); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for _, s := range report.Services {
			want := k&protocolsOf[s.Protocol] != 0
			if s.Spoken != want || s.Works() != want || s.DoubleNAT() {
				t.Errorf("%v: %+v", k, s)
			}
		}
		if len(report.Services) != len(protocolsOf) {
			t.Errorf("%v: %d services", k, len(report.Services))
		}
	}
}
