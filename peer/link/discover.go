package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// natLife is how long what was found out about a NAT is believed. A change of network
	// shows by then, and guests that come in numbers cost the STUN server nothing.
	natLife = 30 * time.Second

	// natTimeout bounds a discovery. A server that has not answered by then is taken for
	// one that UDP does not reach.
	natTimeout = 4 * time.Second

	// filterGrace is how long the answer from the other port may take in addition to three
	// round trips, counted from the one from the port that was asked.
	filterGrace = 400 * time.Millisecond

	// hairpinWait is how long packets between two sockets of this machine may take by way
	// of its router.
	hairpinWait = 300 * time.Millisecond

	// maxNATServers bounds the addresses and ports of servers that are asked in a family.
	maxNATServers = 4
)

// natPauses are the pauses after each transmission of a question about a NAT. They are
// short at first: an answer that was lost must not be taken for one that was kept out.
var natPauses = []time.Duration{
	100 * time.Millisecond, 100 * time.Millisecond, 150 * time.Millisecond, 150 * time.Millisecond,
	250 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond,
	time.Second, time.Second,
}

// natState is what a transport knows of the NATs in front of it.
type natState struct {
	report  NATReport
	at      time.Time     // when the report was complete; zero for none
	running chan struct{} // closed when the discovery under way is over; nil for none
}

// NAT finds out what the NATs and firewalls in front of this machine do, unless that was
// done in the last 30 s, and waits for the outcome. It asks the STUN servers of the
// configuration from sockets of its own, which takes a few round trips where they answer,
// and 4 s where they do not. Without servers it tells what the machine itself knows.
// Several calls at a time share one discovery, which goes on when ctx is done.
func (t *Transport) NAT(ctx context.Context) (NATReport, error) {
	done, err := t.startNAT()
	if err != nil {
		return NATReport{}, err
	}
	select {
	case <-done:
	case <-ctx.Done():
		return NATReport{}, ctx.Err()
	}
	r, _ := t.LastNAT()
	return r, nil
}

// LastNAT gives what [Transport.NAT] found out last, however long ago, and whether there
// is anything.
func (t *Transport) LastNAT() (NATReport, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.nat.report
	r.PortMapping = PortMapping(t.portMapping.Load())
	return r, !t.nat.at.IsZero()
}

// SetPortMapping notes what is known of a router that maps ports, for reports.
func (t *Transport) SetPortMapping(p PortMapping) { t.portMapping.Store(uint32(p)) }

// startNAT begins a discovery if it is time, and gives what is closed when there is a
// fresh report.
func (t *Transport) startNAT() (<-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, net.ErrClosed
	case t.nat.running != nil:
		return t.nat.running, nil
	}
	done := make(chan struct{})
	if !t.nat.at.IsZero() && time.Since(t.nat.at) < natLife {
		close(done)
		return done, nil
	}
	t.nat.running = done
	t.running.Go(func() {
		ctx, cancel := context.WithTimeout(t.life, natTimeout)
		defer cancel()
		r := t.discover(ctx)
		t.mu.Lock()
		t.nat = natState{report: r, at: time.Now()}
		t.mu.Unlock()
		t.log.Debug("NAT", "ipv4", r.V4, "ipv6", r.V6)
		close(done)
	})
	return done, nil
}

// discover asks the servers in both families at once, from two sockets each that nobody
// knows yet: one of them speaks to one port of each server only, so that answers from
// another port show who is let in; the other speaks to all ports.
func (t *Transport) discover(ctx context.Context) NATReport {
	var r NATReport
	v, err := t.net.look()
	if err != nil {
		t.log.Debug("no own addresses", "err", err)
	}
	for _, a := range v.addrs {
		switch {
		case a.Is4():
			r.V4.Address = true
		case a.IsGlobalUnicast() && !a.IsPrivate():
			r.V6.Address = true
		}
	}
	if len(t.stun) == 0 {
		return r
	}
	shy, _, err := t.openMux(0)
	if err != nil {
		t.log.Debug("discovering NATs", "err", err)
		return r
	}
	defer shy.Close()
	bold, _, err := t.openMux(0)
	if err != nil {
		t.log.Debug("discovering NATs", "err", err)
		return r
	}
	defer bold.Close()
	var wg sync.WaitGroup
	for f, n := range [families]*NAT{&r.V4, &r.V6} {
		p := natProbe{nat: n, family: family(f), shy: shy, bold: bold, own: v.addrs}
		if shy.socks[f] != nil && bold.socks[f] != nil && shy.primary()[f].IsValid() {
			wg.Go(func() { p.run(ctx, t.net.resolve, t.stun) })
		}
	}
	wg.Wait()
	return r
}

// natProbe is the discovery in one family.
type natProbe struct {
	nat       *NAT
	family    family
	shy, bold *mux
	own       []netip.Addr // addresses of this machine
}

// natServer is one address of a STUN server.
type natServer struct {
	ports []netip.AddrPort // the first one is what shy asks
}

// resolveServers gives the addresses of the servers, ports of the same one together.
func (p *natProbe) resolveServers(ctx context.Context, resolve resolver, names []string) []natServer {
	found := make([]netip.AddrPort, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			if a, err := resolve(ctx, p.family, name); err == nil {
				found[i] = a
			}
		})
	}
	wg.Wait()
	var servers []natServer
	n := 0
next:
	for i, a := range found {
		if !a.IsValid() || n == maxNATServers || slices.Contains(found[:i], a) {
			continue
		}
		n++
		for i := range servers {
			if servers[i].ports[0].Addr() == a.Addr() {
				servers[i].ports = append(servers[i].ports, a)
				continue next
			}
		}
		servers = append(servers, natServer{[]netip.AddrPort{a}})
	}
	return servers
}

// mapped is what a server said of one of the sockets.
type mapped struct {
	stunAnswer
	rtt time.Duration
	ok  bool
}

// pending is a question that was sent.
type pending struct {
	*inquiry
	sent time.Time
}

func sendQuestion(m *mux, to netip.AddrPort, change bool) pending {
	i, err := m.inquire(to, change)
	if err != nil {
		return pending{}
	}
	return pending{i, time.Now()}
}

func (q pending) wait(ctx context.Context) mapped {
	if q.inquiry == nil {
		return mapped{}
	}
	a, err := q.answer(ctx, natPauses)
	return mapped{a, time.Since(q.sent), err == nil}
}

func (p *natProbe) run(ctx context.Context, resolve resolver, names []string) {
	servers := p.resolveServers(ctx, resolve, names)
	if len(servers) == 0 {
		return // no server has an address of this family
	}
	p.nat.Asked = true

	// All questions leave in this order, one right after the other, so that the outside
	// ports show how the next one is picked.
	bold := make([][]pending, len(servers))
	for i, s := range servers {
		for _, port := range s.ports {
			bold[i] = append(bold[i], sendQuestion(p.bold, port, false))
		}
	}
	shy, moved := make([]pending, len(servers)), make([]pending, len(servers))
	for i, s := range servers {
		shy[i] = sendQuestion(p.shy, s.ports[0], false)
		moved[i] = sendQuestion(p.shy, s.ports[0], true)
	}

	var (
		wg        sync.WaitGroup
		boldSaw   = make([][]mapped, len(servers))
		shySaw    = make([]mapped, len(servers))
		filtering = make([]NATFiltering, len(servers))
	)
	for i := range servers {
		boldSaw[i] = make([]mapped, len(bold[i]))
		for j := range bold[i] {
			wg.Go(func() { boldSaw[i][j] = bold[i][j].wait(ctx) })
		}
		wg.Go(func() { shySaw[i], filtering[i] = filter(ctx, shy[i], moved[i]) })
	}
	wg.Wait()
	for i, s := range servers {
		// A server of which only one port is known may have named another.
		if a := boldSaw[i][0]; len(s.ports) == 1 && a.ok && a.other != 0 && a.other != s.ports[0].Port() {
			other := netip.AddrPortFrom(s.ports[0].Addr(), a.other)
			boldSaw[i] = append(boldSaw[i], sendQuestion(p.bold, other, false).wait(ctx))
		}
	}
	p.conclude(boldSaw, shySaw, filtering)
	p.hairpin(ctx, boldSaw[0][0].mapped, shySaw[0].mapped)
}

// filter waits for the answer from the port that was asked, and then for the one from
// the other port, at most for as long as the first shows that it may take.
func filter(ctx context.Context, asked, moved pending) (mapped, NATFiltering) {
	if moved.inquiry == nil {
		return asked.wait(ctx), FilteringUnknown
	}
	mctx, cancel := context.WithCancel(ctx)
	outcome := make(chan error, 1)
	go func() {
		_, err := moved.answer(mctx, natPauses)
		outcome <- err
	}()
	a := asked.wait(ctx)
	wait := 3*a.rtt + filterGrace
	if !a.ok {
		wait = 0
	}
	enough := time.NewTimer(wait)
	defer enough.Stop()
	var err error
	select {
	case err = <-outcome:
		cancel()
	case <-enough.C:
		cancel()
		err = <-outcome
	}
	switch {
	case err == nil:
		return a, FilteringOpen
	case !a.ok || errors.Is(err, errSTUNRefused):
		return a, FilteringUnknown
	}
	return a, FilteringPortDependent
}

// conclude makes of the answers what is known of the NAT. All of bold's are to one
// socket.
func (p *natProbe) conclude(bold [][]mapped, shy []mapped, filtering []NATFiltering) {
	n := p.nat
	var (
		answers            []mapped
		perPort, perServer bool // whether the outside address depends on them
		externals          = make(map[netip.Addr]struct{})
	)
	n.Preserved = true
	take := func(m *mux, a mapped) {
		n.Answered = true
		externals[a.mapped.Addr()] = struct{}{}
		n.Preserved = n.Preserved && a.mapped.Port() == m.port(p.family)
		if len(n.Ports) == 0 || n.Ports[len(n.Ports)-1] != a.mapped.Port() {
			n.Ports = append(n.Ports, a.mapped.Port())
		}
	}
	for _, server := range bold {
		var first *mapped
		for i, a := range server {
			if !a.ok {
				continue
			}
			take(p.bold, a)
			if first == nil {
				first = &server[i]
			}
			perPort = perPort || a.mapped != first.mapped
			perServer = perServer || len(answers) > 0 && a.mapped != answers[0].mapped
			answers = append(answers, a)
		}
	}
	for _, a := range shy {
		if a.ok {
			take(p.shy, a)
		}
	}
	n.Externals = min(len(externals), 255)
	n.Preserved = n.Preserved && n.Answered
	if len(answers) > 0 {
		n.External = answers[0].mapped
		own := netip.AddrPortFrom(n.External.Addr(), p.bold.port(p.family))
		switch {
		case perPort:
			n.Mapping = MappingAddressPortDependent
		case perServer:
			n.Mapping = MappingAddressDependent
		case n.External == own && slices.Contains(p.own, own.Addr()):
			n.Mapping = MappingNone
		case len(answers) > 1:
			n.Mapping = MappingEndpointIndependent
		}
	}
	if n.Mapping.Symmetric() {
		n.Delta = portDelta(n.Ports)
	}
	for i, f := range filtering {
		// That nobody was let in shows only where somebody was there: who never answers
		// from its second port to anybody was not kept out.
		others := slices.ContainsFunc(bold[i][1:], func(a mapped) bool { return a.ok })
		if f == FilteringOpen || f == FilteringPortDependent && others && n.Filtering == FilteringUnknown {
			n.Filtering = f
		}
	}
}

// portDelta is the step from one port to the next, 0 where there is none to see. Steps
// of others' mappings may lie between ours: then some are a few times as large.
func portDelta(ports []uint16) int {
	delta := 0
	for i := 1; i < len(ports); i++ {
		d := int(ports[i]) - int(ports[i-1])
		if delta == 0 || abs(d) < abs(delta) {
			delta = d
		}
	}
	if len(ports) < 3 || abs(delta) > maxDelta {
		return 0
	}
	for i := 1; i < len(ports); i++ {
		if d := int(ports[i]) - int(ports[i-1]); d%delta != 0 || d/delta < 0 || abs(d) > maxDelta {
			return 0
		}
	}
	return delta
}

func abs(n int) int { return max(n, -n) }

// hairpin has the two sockets send to each other's outside addresses. Both must, because
// most NATs let in only who was written to.
func (p *natProbe) hairpin(ctx context.Context, bold, shy netip.AddrPort) {
	if p.nat.Mapping != MappingEndpointIndependent || !bold.IsValid() || !shy.IsValid() {
		return // there is no NAT, or no telling where the other one is
	}
	ctx, cancel := context.WithTimeout(ctx, hairpinWait)
	defer cancel()
	var wg sync.WaitGroup
	came := make([]bool, 2)
	wg.Go(func() { came[0] = p.bold.throw(ctx, shy, p.shy) })
	wg.Go(func() { came[1] = p.shy.throw(ctx, bold, p.bold) })
	wg.Wait()
	p.nat.Hairpin = HairpinNo
	if came[0] || came[1] {
		p.nat.Hairpin = HairpinYes
	}
}

// throw sends Binding requests to an address until one of them arrives at another mux of
// this machine, or ctx is done.
func (m *mux) throw(ctx context.Context, to netip.AddrPort, at *mux) bool {
	i, err := m.inquire(to, false) // nobody answers
	if err != nil {
		return false
	}
	defer i.forget()
	caught := make(chan struct{}, 1)
	at.mu.Lock()
	at.catches[i.tx] = caught
	at.mu.Unlock()
	defer func() {
		at.mu.Lock()
		delete(at.catches, i.tx)
		at.mu.Unlock()
	}()
	tick := time.NewTicker(hairpinWait / 6)
	defer tick.Stop()
	for {
		select {
		case <-caught:
			return true
		case <-tick.C:
			if i.send() != nil {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}
