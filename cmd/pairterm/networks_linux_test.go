package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pairterm/pairterm/peer/natlab"
)

// internet is a lab with the real program in it.
type internet struct {
	*natlab.Lab
	t      *testing.T
	dir    string // of all processes; $HOME, with the key that hosts allow
	url    string
	path   string // of the program
	server *terminal
	guests atomic.Int64  // numbers their logs
	turn   string        // the file of the TURN server's credentials; empty if none runs
	places chan struct{} // for guests that are on their way in
}

// maxLooking bounds the guests that are on their way in at one time. Of those who will not
// find a path more may look for it: they do little for most of the time.
const maxLooking = 8

// newInternet builds a lab, with a signaling server.
func newInternet(t *testing.T) *internet {
	t.Helper()
	n := &internet{Lab: natlab.New(t), t: t, dir: t.TempDir(), url: "ws://" + natlab.ServerName + ":8080", places: make(chan struct{}, maxLooking)}
	var err error
	if n.path, err = build(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(n.dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	keygen := n.command("keygen", filepath.Join(n.dir, ".ssh", "id_ed25519"))
	if out, err := keygen.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n.serve()
	return n
}

// serve starts the signaling server.
func (n *internet) serve() {
	n.t.Helper()
	n.server = n.spawn(n.Server, "signal", "--open", "--verbose")
	n.server.expect(n.t, `signaling on`)
	n.server.expect(n.t, `answering STUN on`)
}

func (n *internet) command(args ...string) *exec.Cmd {
	cmd := exec.Command(n.path, args...)
	cmd.Dir = n.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.dir, "USER=tester", "SHELL=/bin/sh", "PS1=$ ", "TERM=xterm-256color", "LANG=C.UTF-8", "LC_ALL=C.UTF-8"}
	return cmd
}

// start runs the program on a terminal at a machine. It is for any goroutine; end the
// program.
func (n *internet) start(m *natlab.Machine, args ...string) (*terminal, error) {
	cmd := n.command(args...)
	return openTerminal(cmd, 80, 24, func() error { return m.Start(cmd) })
}

// end kills the program, and waits until nothing of it is left.
func (t *terminal) end() {
	t.cmd.Process.Kill()
	t.until(func() bool { return t.waited && t.closed })
	t.master.Close()
}

// spawn runs the program until the end of the test.
func (n *internet) spawn(m *natlab.Machine, args ...string) *terminal {
	n.t.Helper()
	term, err := n.start(m, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(term.end)
	return term
}

// expect waits until all that was ever output matches, and gives the first group.
func (t *terminal) expect(tb testing.TB, pattern string) string {
	tb.Helper()
	re := regexp.MustCompile(pattern)
	var groups [][]byte
	if !t.until(func() bool { groups = re.FindSubmatch(t.raw); return groups != nil }) {
		tb.Fatalf("no %q in %q", pattern, t.output())
	}
	return string(groups[len(groups)-1])
}

// host shares a command at a machine, and returns the ticket.
func (n *internet) host(m *natlab.Machine, flags []string, command ...string) (*terminal, string) {
	n.t.Helper()
	args := append([]string{"host", "--quiet", "--signal", n.url, "--log", filepath.Join(n.dir, "host.log"), "--verbose"}, flags...)
	host := n.spawn(m, append(append(args, "--"), command...)...)
	return host, host.expect(n.t, `pairterm join (pt1[a-z0-9]+)`)
}

// joined is how a guest's attempt to join ended.
type joined struct {
	network string         // udp4, udp6, tcp4 or tcp6; empty if there was no path
	remote  netip.AddrPort // of the host, as the guest sees it
	kind    string         // the remote address's type in ICE
	took    time.Duration  // until the program said so
	said    string         // what it said
	status  int            // that it ended with
	err     error          // what went wrong with the session
}

func (j joined) String() string {
	if j.network == "" || j.err != nil {
		return fmt.Sprintf("after %v status %d, %v, %q", j.took, j.status, j.err, j.said)
	}
	return fmt.Sprintf("%s %s %v after %v", j.network, j.kind, j.remote, j.took)
}

// selected finds the path in a guest's log.
var selected = regexp.MustCompile(`msg="path selected".* remote="(\S+) (\S+) (\S+)"`)

// join has a guest join, type a sign that nobody else types, see it, and leave; or look in
// vain, if it is hopeless. It is for any goroutine.
func (n *internet) join(m *natlab.Machine, ticket string, sign rune, hopeless bool, flags ...string) (j joined) {
	n.places <- struct{}{}
	leave := sync.OnceFunc(func() { <-n.places })
	defer leave()
	log := filepath.Join(n.dir, fmt.Sprintf("guest%d.log", n.guests.Add(1)))
	began := time.Now()
	guest, err := n.start(m, append([]string{"join", "--quiet", "--log", log, "--verbose", ticket}, flags...)...)
	if err != nil {
		return joined{err: err}
	}
	defer guest.end()
	said := func(what string) bool { return bytes.Contains(guest.raw, []byte(what)) }
	shows := func(what string) bool {
		return guest.until(func() bool { return strings.Contains(guest.textLocked(), what) || guest.waited })
	}
	if hopeless {
		guest.until(func() bool { return said("finding a path") || guest.waited })
		leave()
	}
	// A failure is told within 15 s, or a bit more on a busy machine.
	for range 2 {
		guest.until(func() bool { return said(": connected ") || guest.waited && guest.closed })
	}
	j.took = time.Since(began).Round(time.Millisecond)
	if strings.Contains(guest.output(), ": connected ") {
		shows("ready")
		guest.master.WriteString(string(sign))
		if !shows(string(sign)) {
			j.err = fmt.Errorf("what was typed does not show:\n%s", guest.text())
		}
		guest.master.WriteString("\x1dd")
		guest.until(func() bool { return guest.waited && guest.closed })
		data, _ := os.ReadFile(log)
		all := selected.FindAllSubmatch(data, -1)
		if len(all) == 0 {
			j.err = fmt.Errorf("no path in the log:\n%s", data)
		} else {
			last := all[len(all)-1]
			j.kind, j.network = string(last[1]), string(last[2])
			j.remote, _ = netip.ParseAddrPort(string(last[3]))
		}
	}
	guest.mu.Lock()
	defer guest.mu.Unlock()
	if j.said = string(guest.raw); !guest.waited {
		j.err = errors.New("it does not end")
	}
	j.status = guest.status
	return j
}

// network is a kind of network that one end of a session may be in.
type network struct {
	name   string // in the README
	config func(n *internet, side string) natlab.Config
	says   string // what a failure calls it
}

func plain(c natlab.Config) func(*internet, string) natlab.Config {
	return func(*internet, string) natlab.Config { return c }
}

var networks = []network{
	{"public address", plain(natlab.Config{}), "a public IPv4 address"},
	{"full cone", plain(natlab.Config{NAT: natlab.FullCone}), "a NAT that is easy to get through"},
	{"home", plain(natlab.Config{NAT: natlab.Cone}), "a NAT that is easy to get through"},
	{"double", func(n *internet, side string) natlab.Config {
		return natlab.Config{NAT: natlab.Cone, Carrier: n.Carrier(side+"'s carrier", natlab.Config{NAT: natlab.Cone})}
	}, "a NAT that is easy to get through"},
	{"symmetric", plain(natlab.Config{NAT: natlab.Symmetric}), "a symmetric NAT"},
	{"symmetric, IPv6", plain(natlab.Config{NAT: natlab.Symmetric, IPv6: true}), "a symmetric NAT"},
	{"only IPv6", plain(natlab.Config{NoIPv4: true, IPv6: true}), "no IPv4; IPv6"},
	{"no UDP", plain(natlab.Config{NAT: natlab.Cone, NoUDP: true}), "UDP is blocked"},
}

// reachable says over what a guest in each of networks is connected to a host in each of
// them. It is the README's table.
var reachable = map[string][]string{
	// guest:          public  full    home    double  symm.   s.+IPv6 IPv6    no UDP
	"public address":  {"UDP", "UDP", "UDP", "UDP", "UDP", "UDP", "–", "TCP"},
	"full cone":       {"UDP", "UDP", "UDP", "UDP", "UDP", "UDP", "–", "–"},
	"home":            {"UDP", "UDP", "UDP", "UDP", "–", "–", "–", "–"},
	"double":          {"UDP", "UDP", "UDP", "UDP", "–", "–", "–", "–"},
	"symmetric":       {"UDP", "UDP", "–", "–", "–", "–", "–", "–"},
	"symmetric, IPv6": {"UDP", "UDP", "–", "–", "–", "IPv6", "IPv6", "–"},
	"only IPv6":       {"–", "–", "–", "–", "–", "IPv6", "IPv6", "–"},
	"no UDP":          {"–", "–", "–", "–", "–", "–", "–", "–"},
}

// over is how the README calls what two machines are connected by.
var over = map[string]string{"udp4": "UDP", "udp6": "IPv6", "tcp4": "TCP", "": "–"}

// relayed is how the README calls a connection by way of a TURN server.
const relayed = "relayed"

// TestNetworks has a guest in each kind of network join a host in each, with the real
// program.
func TestNetworks(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	type end struct {
		network
		site *natlab.Site
		at   *natlab.Machine
	}
	place := func(side string) []end {
		var ends []end
		for _, k := range networks {
			site := n.Site(side+" in "+k.name, k.config(n, side))
			ends = append(ends, end{k, site, site.Machine(side + " in " + k.name)})
		}
		return ends
	}
	hosts, guests, tickets := place("host"), place("guest"), map[string]string{}
	for _, host := range hosts {
		if !testing.Short() || host.name == "home" {
			_, tickets[host.name] = n.host(host.at, nil, "sh", "-c", "echo ready; exec cat")
		}
	}
	for _, hopeless := range []bool{false, true} {
		var wg sync.WaitGroup
		for _, host := range hosts {
			ticket, ok := tickets[host.name]
			for i, guest := range guests {
				want := reachable[host.name][i]
				if !ok || hopeless != (want == "–") {
					continue
				}
				wg.Go(func() {
					j := n.join(guest.at, ticket, 'α'+rune(i), hopeless)
					t.Logf("host %s, guest %s: %s", host.name, guest.name, j)
					n.check(j, want, host.site, host.at, []string{"your network: " + guest.says, "the host's: " + host.says})
				})
			}
		}
		wg.Wait()
	}
}

// check compares how an attempt to join went with what is expected. It is for any
// goroutine.
func (n *internet) check(j joined, want string, site *natlab.Site, host *natlab.Machine, says []string) {
	got := over[j.network]
	if strings.Contains(j.said, "connected relayed") {
		got = relayed
	}
	if j.err != nil || got != want {
		n.t.Errorf("got %s, want %s", j, want)
		return
	}
	if want == "–" {
		for _, w := range append([]string{"error: no direct path", "hint: "}, says...) {
			if !strings.Contains(j.said, w) {
				n.t.Errorf("%s: does not say %q", j, w)
			}
		}
		if j.status != exitNoPath {
			n.t.Errorf("%s: status %d, want %d", j, j.status, exitNoPath)
		}
		return
	}
	if want == relayed {
		return // by way of addresses that do not exist
	}
	at := []netip.Addr{host.IPv4(), host.IPv6(), site.PublicIPv4()}
	if !slices.Contains(at, j.remote.Addr()) {
		n.t.Errorf("%s: the host is at one of %v", j, at)
	}
}

// arrangement is a pair of networks that have to do with each other, or in which
// somebody has done something about it.
type arrangement struct {
	name string // in the README
	want string // see over
	make func(n *internet) meeting

	needs string // a program besides those that every lab takes
}

// meeting is a host and a guest in their places.
type meeting struct {
	site       *natlab.Site // the host's
	at, guest  *natlab.Machine
	flags      []string // of the host
	guestFlags []string
}

// neighbours are two homes at one carrier.
func neighbours(carrier natlab.Config) func(n *internet) meeting {
	return func(n *internet) meeting {
		c := n.Carrier("carrier", carrier)
		host := n.Site("a home", natlab.Config{NAT: natlab.Cone, Carrier: c})
		guest := n.Site("another home", natlab.Config{NAT: natlab.Cone, Carrier: c})
		return meeting{site: host, at: host.Machine("host"), guest: guest.Machine("guest")}
	}
}

var arrangements = []arrangement{
	{"both in one LAN", "UDP", func(n *internet) meeting {
		s := n.Site("home", natlab.Config{NAT: natlab.Symmetric})
		return meeting{site: s, at: s.Machine("host"), guest: s.Machine("guest")}
	}, ""},
	{"two homes, `join --path lan`", "–", func(n *internet) meeting {
		m := alike(natlab.Config{NAT: natlab.Cone})(n)
		m.guestFlags = []string{"--path", "lan"}
		return m
	}, ""},
	{"two homes whose LANs have the same addresses", "UDP", alike(natlab.Config{NAT: natlab.Cone, LAN: 1}), ""},
	{"two homes whose routers answer what they do not let in", "UDP", alike(natlab.Config{NAT: natlab.Cone, Rejects: true}), ""},
	{"two homes with IPv6 that leads nowhere", "UDP", alike(natlab.Config{NAT: natlab.Cone, IPv6: true, Blind6: true}), ""},
	{"two homes, one with an MTU of 1,280 and a router that does not say so", "UDP", small(natlab.Config{NAT: natlab.Cone, MTU: 1280}), ""},
	{"the same over IPv6", "IPv6", small(natlab.Config{NoIPv4: true, IPv6: true, MTU: 1280}), ""},
	{"two customers of one carrier whose NAT passes packets between them (hairpin)", "UDP", neighbours(natlab.Config{NAT: natlab.Cone, Hairpin: true}), ""},
	{"two customers of one carrier whose NAT does not", "–", neighbours(natlab.Config{NAT: natlab.Cone}), ""},
	{"two symmetric NATs, `host --port 40000`, and the host's router forwards that port", "UDP", forwarded(natlab.Config{NAT: natlab.Symmetric}), ""},
	{"the same with a guest whose network blocks UDP", "TCP", forwarded(natlab.Config{NAT: natlab.Cone, NoUDP: true}), ""},
	{"two symmetric NATs, and the host's router maps ports by UPnP", "UDP", mapped(natlab.UPnP, natlab.Config{NAT: natlab.Symmetric}), "miniupnpd"},
	{"the same by NAT-PMP", "UDP", mapped(natlab.NATPMP, natlab.Config{NAT: natlab.Symmetric}), "miniupnpd"},
	{"the same by PCP", "UDP", mapped(natlab.PCP, natlab.Config{NAT: natlab.Symmetric}), "miniupnpd"},
	{"a guest whose network blocks UDP, and the host's router maps ports", "TCP", mapped(natlab.UPnP|natlab.NATPMP|natlab.PCP, natlab.Config{NAT: natlab.Cone, NoUDP: true}), "miniupnpd"},
	{"two symmetric NATs, and the guest's router maps ports", "UDP", mapped(0, natlab.Config{NAT: natlab.Symmetric, PortMap: natlab.UPnP | natlab.NATPMP | natlab.PCP}), "miniupnpd"},
	{"two symmetric NATs, `host --ice-server`, `join --path any`", relayed, relay(true, natlab.Config{NAT: natlab.Symmetric}), "turnserver"},
	{"a guest whose network blocks UDP, `join --ice-server` over TCP, `host --path any`", relayed, relay(false, natlab.Config{NAT: natlab.Cone, NoUDP: true}), "turnserver"},
}

// relay is a host behind a symmetric NAT and a guest who agree to have a TURN server relay,
// which one of them brings: the guest, if hosts is false, over TCP.
func relay(hosts bool, guest natlab.Config) func(n *internet) meeting {
	return func(n *internet) meeting {
		host := n.Site("host's", natlab.Config{NAT: natlab.Symmetric})
		m := meeting{site: host, at: host.Machine("host"), guest: n.Site("guest's", guest).Machine("guest")}
		server := "turn:" + natlab.ServerName + ":3578"
		if hosts {
			m.flags, m.guestFlags = []string{"--ice-server", server, "--ice-credentials", n.turn}, []string{"--path", "any"}
		} else {
			m.flags, m.guestFlags = []string{"--path", "any"}, []string{"--ice-server", server + "?transport=tcp", "--ice-credentials", n.turn}
		}
		return m
	}
}

// relays starts a TURN server beside the signaling server, if there is none yet.
func (n *internet) relays() {
	n.t.Helper()
	if n.turn != "" {
		return
	}
	n.turn = filepath.Join(n.dir, "turn")
	if err := os.WriteFile(n.turn, []byte("username=us\npassword=ours\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	ip := natlab.ServerIPv4.String()
	cmd := exec.Command("turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "--listening-ip", ip, "--relay-ip", ip, "--listening-port", "3578",
		"--realm", "example.org", "--lt-cred-mech", "--user", "us:ours", "--log-file", "stdout", "--simple-log",
		"--pidfile", filepath.Join(n.dir, "turn.pid"), "--db", filepath.Join(n.dir, "turn.db"))
	server, err := openTerminal(cmd, 80, 24, func() error { return n.Server.Start(cmd) })
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(server.end)
	server.expect(n.t, `SQLite DB connection success`)
}

// mapped is a host behind a symmetric NAT whose router maps ports when asked.
func mapped(by natlab.PortMap, guests natlab.Config) func(n *internet) meeting {
	return func(n *internet) meeting {
		host := n.Site("host's", natlab.Config{NAT: natlab.Symmetric, PortMap: by})
		guest := n.Site("guest's", guests)
		return meeting{site: host, at: host.Machine("host"), guest: guest.Machine("guest")}
	}
}

// alike are two networks of the same kind.
func alike(c natlab.Config) func(n *internet) meeting {
	return func(n *internet) meeting {
		host := n.Site("host's", c)
		return meeting{site: host, at: host.Machine("host"), guest: n.Site("guest's", c).Machine("guest")}
	}
}

// small is a host whose network has little room in packets, and a guest in another of
// the same kind that has more.
func small(c natlab.Config) func(n *internet) meeting {
	return func(n *internet) meeting {
		host := n.Site("host's", c)
		c.MTU = 0
		return meeting{site: host, at: host.Machine("host"), guest: n.Site("guest's", c).Machine("guest")}
	}
}

// forwarded is a host behind a symmetric NAT that forwards a port.
func forwarded(guest natlab.Config) func(n *internet) meeting {
	return func(n *internet) meeting {
		host := n.Site("host's", natlab.Config{NAT: natlab.Symmetric})
		at := host.Machine("host")
		host.Forward(40000, at)
		return meeting{site: host, at: at, guest: n.Site("guest's", guest).Machine("guest"), flags: []string{"--port", "40000"}}
	}
}

// TestNetworksTogether does for each arrangement what TestNetworks does for networks
// that know nothing of each other.
func TestNetworksTogether(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	type try struct {
		arrangement
		meeting
		ticket string
	}
	var tries []try
	for _, a := range arrangements {
		if testing.Short() && a.want == "–" {
			continue
		}
		if _, err := exec.LookPath(a.needs); a.needs != "" && err != nil {
			t.Run(a.name, func(t *testing.T) { t.Skipf("%s is not here", a.needs) })
			continue
		}
		if a.want == relayed {
			n.relays()
		}
		m := a.make(n)
		// Much at once, so that there are large packets.
		_, ticket := n.host(m.at, m.flags, "sh", "-c", "seq 10000; echo ready; exec cat")
		tries = append(tries, try{a, m, ticket})
	}
	var wg sync.WaitGroup
	for _, m := range tries {
		wg.Go(func() {
			j := n.join(m.guest, m.ticket, 'ω', m.want == "–", m.guestFlags...)
			t.Logf("%s: %s", m.name, j)
			n.check(j, m.want, m.site, m.at, nil)
		})
	}
	wg.Wait()
}

// TestNetworksInREADME keeps the README's tables equal to what is tested.
func TestNetworksInREADME(t *testing.T) {
	var b strings.Builder
	b.WriteString("| host ↓, guest → |")
	for _, k := range networks {
		fmt.Fprintf(&b, " %s |", k.name)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(networks)+1) + "\n")
	for _, k := range networks {
		fmt.Fprintf(&b, "| %s | %s |\n", k.name, strings.Join(reachable[k.name], " | "))
	}
	b.WriteString("\n| and where | |\n|---|---|\n")
	for _, a := range arrangements {
		fmt.Fprintf(&b, "| %s | %s |\n", a.name, a.want)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), b.String()) {
		t.Errorf("README.md does not have these tables:\n%s", &b)
	}
}
