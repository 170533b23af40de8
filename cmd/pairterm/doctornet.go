package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/tunnel"
	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// Bounds of the parts of an examination, which add up to less than doctorTimeout.
const (
	serverTimeout = 4 * time.Second
	natTimeout    = 4500 * time.Millisecond
)

// serverResult is what is known of a signaling server.
type serverResult struct {
	url     string
	pong    signal.Pong
	pingErr error
	info    signal.Info // as a host gets it
	hostErr error       // why it does not take a host
}

// askServers asks all configured signaling servers.
func (d *doctor) askServers(ctx context.Context) []serverResult {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	results := make([]serverResult, len(d.opts.signal))
	var wg sync.WaitGroup
	for i, u := range d.opts.signal {
		r := &results[i]
		r.url = u
		wg.Go(func() { r.pong, r.pingErr = signal.Ping(ctx, u, nil) })
		wg.Go(func() { r.info, r.hostErr = d.register(ctx, u) })
	}
	wg.Wait()
	return results
}

// register opens a room that nobody knows, for a moment: so a host sees a server.
func (d *doctor) register(ctx context.Context, url string) (signal.Info, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return signal.Info{}, err
	}
	ids, _ := keys.Identities(ctx, keys.IdentityOptions{File: d.opts.identity, Prompt: askPassphrase})
	ids = slices.DeleteFunc(ids, needsTouch)
	reg, err := signal.Register(ctx, url, key, &signal.Options{Identities: ids})
	if err != nil {
		return signal.Info{}, err
	}
	defer reg.Close()
	return reg.Info(), nil
}

// reportServers tells about the signaling servers, and about this machine's clock.
func reportServers(results []serverResult) []finding {
	if len(results) == 0 {
		return []finding{embedded()}
	}
	var out []finding
	for _, r := range results {
		out = append(out, r.finding())
	}
	for _, r := range results {
		if r.pingErr == nil {
			return append(out, clockFinding(r.pong.Skew))
		}
	}
	return out
}

// embedded tells where the server inside a host can be reached.
func embedded() finding {
	f := finding{Check: "signaling", Text: "no server is named: host runs one inside"}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		f.Verdict, f.Text = verdictProblem, err.Error()
		return f
	}
	defer l.Close()
	var at []string
	far := false
	for _, u := range server.LocalURLs(l) {
		if host, _, err := net.SplitHostPort(strings.TrimPrefix(u, "ws://")); err == nil {
			at = append(at, host)
			far = far || !isLoopback(u)
		}
	}
	f.Facts = map[string]any{"addresses": at}
	f.Text += ", at " + strings.Join(at, ", ")
	f.Verdict, f.Hint = verdictNote, "guests must reach that, in this network or a VPN; to meet others: pairterm signal, on a box that both sides reach"
	if !far {
		f.Verdict, f.Text = verdictWarning, "this machine is in no network: guests can join on it only"
	}
	return f
}

func (r serverResult) finding() finding {
	f := finding{Check: "signaling", Facts: map[string]any{"url": r.url}}
	if r.pingErr != nil {
		f.Verdict, f.Text = verdictProblem, fmt.Sprintf("%s: %s", keys.Printable(r.url), because(r.pingErr))
		f.Hint = firstHint(r.pingErr)
		return f
	}
	f.Facts["roundTripMs"] = milliseconds(r.pong.RTT)
	f.Text = fmt.Sprintf("%s answers in %s", r.pong.Server, describeRTT(r.pong.RTT))
	switch {
	case r.hostErr == nil:
		f.Text += " and takes you as a host"
	case errors.Is(r.hostErr, signal.ErrNotAllowed), errors.Is(r.hostErr, signal.ErrProofRequired), errors.Is(r.hostErr, keys.ErrPassphraseNeeded):
		f.Verdict, f.Text = verdictWarning, f.Text+", and does not take you as a host: "+because(r.hostErr)
		f.Hint = firstHint(r.hostErr)
	default:
		f.Verdict, f.Text = verdictProblem, f.Text+", and then: "+because(r.hostErr)
		f.Hint = firstHint(r.hostErr)
	}
	return f
}

// because is an error in one line, and a timeout in words.
func because(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Sprintf("no answer within %v", serverTimeout)
	}
	return brief(err)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// How wrong a clock may be: what ends by the clock is given to the minute at best, and
// certificates of servers hold for weeks.
const (
	skewTolerated = 30 * time.Second
	skewTerrible  = 24 * time.Hour
)

// clockFinding compares this machine's clock with a server's.
func clockFinding(skew time.Duration) finding {
	f := finding{Check: "clock", Text: "agrees with the server's", Facts: map[string]any{"offsetMs": milliseconds(-skew)}}
	off, way := skew, "slow"
	if skew < 0 {
		off, way = -skew, "fast"
	}
	if off <= skewTolerated {
		return f
	}
	f.Verdict = verdictWarning
	if off > skewTerrible {
		f.Verdict = verdictProblem
	}
	f.Text = fmt.Sprintf("%v %s by the server's; what expires is judged by it", off.Round(time.Second), way)
	f.Hint = "set the clock, for example: timedatectl set-ntp true"
	return f
}

// ticketResult is what is known of a ticket's host.
type ticketResult struct {
	asked bool
	err   error // why it is not there, or not known
	info  signal.Info
	first string // where it was looked for, the first place
}

// askTicket finds out whether a ticket's host is there, as far as one gets without
// bothering it.
func (d *doctor) askTicket(ctx context.Context) ticketResult {
	if d.opts.ticket == "" {
		return ticketResult{}
	}
	r := ticketResult{asked: true}
	t, err := findTicket(d.opts.ticket)
	if err != nil {
		r.err = err
		return r
	}
	r.first = t.Signal[0]
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	pipe, info, err := signal.DialAny(ctx, t.Signal, signal.RoomOf(t.Pin), nil)
	if err != nil {
		r.err = err
		return r
	}
	r.info = info
	g := tunnel.Guest{Pin: t.Pin}
	r.err = g.Meet(ctx, pipe)
	return r
}

func (r ticketResult) findings() []finding {
	if !r.asked {
		return nil
	}
	f := finding{Check: "host", Facts: map[string]any{"there": r.err == nil}}
	if r.info.Server != "" {
		f.Facts["url"] = r.info.Server
	}
	switch {
	case r.err == nil:
		f.Text = fmt.Sprintf("the ticket's host is there, at %s; whether it lets you in, joining will tell", r.info.Server)
	case errors.Is(r.err, signal.ErrNotAllowed), errors.Is(r.err, signal.ErrProofRequired):
		f.Verdict, f.Text = verdictNote, "its server tells only those with a key that it knows whether the host is there"
	default:
		f.Verdict, f.Text, f.Hint = verdictProblem, because(r.err), firstHint(r.err)
	}
	return []finding{f}
}

// routeResult is what is known of the ways between this machine and the Internet.
type routeResult struct {
	port    int   // that was asked for
	err     error // a port that cannot be had, a STUN server that is none
	servers []string
	noSTUN  finding // what is told instead, if nobody has named one
	answers []link.Mapping
	nat     link.NATReport
}

// explore asks the STUN servers.
func (d *doctor) explore(ctx context.Context, servers []serverResult, host ticketResult) routeResult {
	r := routeResult{port: d.opts.port, servers: d.opts.stun, noSTUN: noSTUN(servers, host)}
	cfg := link.Config{Port: d.opts.port}
	for _, s := range servers {
		if len(r.servers) == 0 {
			r.servers = s.info.STUN
		}
		if isLoopback(s.url) {
			cfg.Loopback = link.LoopbackAlways
		}
	}
	if len(r.servers) == 0 {
		r.servers = host.info.STUN
		if host.first != "" && isLoopback(host.first) {
			cfg.Loopback = link.LoopbackAlways
		}
	}
	cfg.STUN = r.servers
	ctx, cancel := context.WithTimeout(ctx, natTimeout)
	defer cancel()
	t, err := link.NewTransport(cfg)
	if err != nil {
		r.err = err
		return r
	}
	defer t.Close()
	if _, r.err = t.Listen(); r.err != nil {
		return r
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.answers, _ = t.Mappings(ctx) }) // it has just been opened
	wg.Go(func() { r.nat, _ = t.NAT(ctx) })          // as before, without a report
	wg.Wait()
	return r
}

// noSTUN tells why no STUN server is known, given what those that tell of one said.
func noSTUN(servers []serverResult, host ticketResult) finding {
	f := finding{Check: "udp", Verdict: verdictNote}
	const consequence = ": what routers and firewalls do is not known"
	const name = "name a STUN server: pairterm doctor --stun stun.example.org:3478"
	failed := func(r serverResult) bool { return r.pingErr != nil || r.hostErr != nil }
	switch {
	case slices.ContainsFunc(servers, failed):
		f.Text = "not tested, since the signaling server told of no STUN server" + consequence
		f.Hint = "see signaling above; or " + name
	case len(servers) > 0:
		f.Text = "not tested, since the signaling server has no STUN server to tell of" + consequence
		f.Hint = name
	case host.first != "" && host.info.Server == "":
		f.Text = "not tested, since the ticket's signaling server told of no STUN server" + consequence
		f.Hint = "see host below; or " + name
	case host.first != "":
		f.Text = "not tested, since the ticket's signaling server has no STUN server to tell of" + consequence
		f.Hint = name
	default:
		f.Text = "not tested, for want of a STUN server" + consequence
		f.Hint = "name a signaling server, which answers STUN too: pairterm doctor --signal wss://signal.example.org"
	}
	return f
}

// findings tells about the ways, given what the router does.
func (r routeResult) findings(router routerResult) []finding {
	if r.err != nil {
		return []finding{{Check: "udp", Verdict: verdictProblem, Text: brief(r.err), Hint: portHint(r.err, r.port, 0)}}
	}
	if len(r.servers) == 0 {
		return slices.Concat([]finding{r.noSTUN, ipv6Finding(r.nat.V6)}, router.findings(r.nat.V4), []finding{reachFinding(r.nat)})
	}
	out := []finding{r.udp()}
	switch ext := r.nat.V4.External.Addr(); {
	case r.nat.V4.Answered && (ext.IsLoopback() || ext.IsPrivate()):
		// Whoever is so near sees nothing of the router in front of both.
		r.nat.V4.Mapping, r.nat.V4.Filtering = link.MappingUnknown, link.FilteringUnknown
		out = append(out, finding{Check: "nat", Verdict: verdictNote, Text: "not tested: the STUN server is in this network, and sees this machine as " + ext.String(),
			Facts: natFacts(r.nat.V4)})
	case r.nat.V4.Answered:
		out = append(out, natFinding(r.nat.V4, router.useful()))
	}
	if router.useful() {
		r.nat.PortMapping = link.PortMappingMade
	}
	out = append(out, ipv6Finding(r.nat.V6))
	out = append(out, router.findings(r.nat.V4)...)
	return append(out, reachFinding(r.nat))
}

// udp tells whether UDP gets out and answers get in.
func (r routeResult) udp() finding {
	var good []string
	var fastest time.Duration
	for _, m := range r.answers {
		if m.Err != nil {
			continue
		}
		good = append(good, m.Addr.String())
		if fastest == 0 || m.RTT < fastest {
			fastest = m.RTT
		}
	}
	f := finding{Check: "udp", Facts: map[string]any{"servers": r.servers, "answered": len(good) > 0}}
	if len(good) == 0 {
		f.Verdict = verdictProblem
		f.Text = "no answer from STUN at " + strings.Join(r.servers, ", ") + ": this network blocks UDP, or the server's ports are closed"
		f.Hint = "try another network, or a VPN; on the server open 3478/udp and 3479/udp"
		return f
	}
	f.Facts["roundTripMs"] = milliseconds(fastest)
	slices.Sort(good)
	f.Text = fmt.Sprintf("passes: STUN at %s answers in %s", strings.Join(slices.Compact(good), ", "), describeRTT(fastest))
	return f
}

// natFinding tells what kind of NAT there is over IPv4, which is no trouble where the router
// maps ports.
func natFinding(n link.NAT, mapped bool) finding {
	f := finding{Check: "nat", Facts: natFacts(n)}
	outside := ""
	if n.External.IsValid() {
		outside = ", outside address " + n.External.Addr().String()
	}
	switch {
	case n.Mapping == link.MappingNone && n.Filtering == link.FilteringPortDependent:
		f.Verdict, f.Text = verdictNote, "none, but a firewall that lets nobody in unasked"+outside
	case n.Mapping == link.MappingNone:
		f.Text = "none" + outside
	case n.Mapping == link.MappingEndpointIndependent && n.Filtering == link.FilteringOpen:
		f.Text = "an open one, which is easy to get through" + outside
	case n.Mapping == link.MappingEndpointIndependent:
		f.Text = "a usual one, which most get through" + outside
	case n.Mapping.Symmetric():
		f.Verdict, f.Text = verdictWarning, "a symmetric one, which hides where packets must go"+outside
		f.Hint = "turn on UPnP or NAT-PMP in the router's settings, or IPv6; or forward a UDP port to this machine: " + forwardCommand
		if n.Delta != 0 {
			f.Text += fmt.Sprintf(", though its ports can be guessed: they go in steps of %d", n.Delta)
		}
	default:
		f.Verdict, f.Text = verdictNote, "one of which the kind is not known: that takes a STUN server with two ports"+outside
	}
	if mapped && f.Verdict > verdictNote {
		f.Verdict, f.Hint = verdictNote, ""
		f.Text += "; no matter, since the router maps ports"
	}
	f.Text += fmt.Sprintf(" (mapping: %v, filtering: %v, hairpin: %v)", n.Mapping, n.Filtering, n.Hairpin)
	return f
}

func natFacts(n link.NAT) map[string]any {
	m := map[string]any{
		"mapping":        n.Mapping.String(),
		"filtering":      n.Filtering.String(),
		"hairpin":        n.Hairpin.String(),
		"externals":      n.Externals,
		"portsPreserved": n.Preserved,
		"portStep":       n.Delta,
	}
	if n.External.IsValid() {
		m["external"] = n.External.Addr().String()
	}
	return m
}

func ipv6Finding(n link.NAT) finding {
	f := finding{Check: "ipv6", Facts: natFacts(n)}
	f.Facts["address"] = n.Address
	f.Facts["answered"] = n.Answered
	switch {
	case n.Answered:
		f.Text = "works"
		if n.Filtering == link.FilteringPortDependent {
			f.Text += ", behind a firewall that lets nobody in unasked, which is usual"
		}
	case n.Address && n.Asked:
		f.Verdict, f.Text = verdictWarning, "this machine has an address, but no answer comes"
		f.Hint = "look for IPv6 in the router's settings, or in the firewall's"
	case n.Address:
		f.Text = "this machine has an address"
	default:
		f.Verdict, f.Text = verdictNote, "none in this network; where both sides have it, NATs are no obstacle"
	}
	return f
}

// reach is which guests can come to a host, without a mapping or forwarding for them.
type reach string

// The kinds of reach, as they stand in JSON.
const (
	reachAll     reach = "all"     // whose network lets UDP out
	reachUsual   reach = "usual"   // who has no NAT, or not a symmetric one
	reachOpen    reach = "open"    // who has no NAT, or one that lets strangers in
	reachIPv6    reach = "ipv6"    // who has IPv6
	reachLocal   reach = "local"   // who is in the same network
	reachUnknown reach = "unknown" // nobody answered what it takes to know
)

// reachOf concludes from what the ways to a host are like.
func reachOf(r link.NATReport) reach {
	cone := r.V4.Mapping == link.MappingNone || r.V4.Mapping == link.MappingEndpointIndependent
	switch {
	case r.UDPBlocked():
		return reachLocal
	case r.PortMapping == link.PortMappingMade, cone && r.V4.Filtering == link.FilteringOpen:
		return reachAll
	case cone:
		return reachUsual
	case r.V4.Mapping.Symmetric():
		return reachOpen
	case r.V6.Answered && !r.V4.Answered:
		return reachIPv6
	}
	return reachUnknown
}

// reachFinding tells which guests can come to this machine.
func reachFinding(r link.NATReport) finding {
	kind := reachOf(r)
	f := finding{Check: "guests", Facts: map[string]any{"reach": kind, "ipv6": r.V6.Answered}}
	const widen = "to be reached by all: UPnP or NAT-PMP in the router, or a forwarded port: " + forwardCommand
	switch kind {
	case reachAll:
		f.Text = "everybody can join whose network lets UDP out"
	case reachUsual:
		f.Text, f.Hint = "those can join who have no NAT or a usual one, but not from behind symmetric NATs", widen
	case reachOpen:
		f.Verdict, f.Text, f.Hint = verdictWarning, "only those can join who have no NAT or an open one", widen
	case reachIPv6:
		f.Verdict, f.Text = verdictNote, "everybody with IPv6 can join"
	case reachLocal:
		f.Verdict, f.Text = verdictProblem, "only those in the same network or VPN can join"
		f.Hint = "put both machines into one VPN, such as WireGuard or Tailscale"
	case reachUnknown:
		f.Verdict, f.Text = verdictNote, "those in the same network or VPN can join; whether others can is not known"
	}
	if f.Hint == widen && r.V6.Answered {
		f.Text += "; and everybody with IPv6"
	}
	return f
}
