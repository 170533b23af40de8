package link

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/webrtc/v3"
)

// closeWait bounds how long Close waits for pion. It needs milliseconds.
const closeWait = 5 * time.Second

// Link is an established connection to a peer. It is safe for concurrent use.
type Link struct {
	// Set once.
	transport *Transport
	log       *slog.Logger
	local     Description
	dialed    bool
	mux       *mux
	conns     []*muxConn // its share of the mux
	tcp       *tcpMux    // nil without TCP, and for dialed links
	pc        *webrtc.PeerConnection
	binding   [32]byte // set before the link is handed out
	sync      *Channel // likewise
	control   *Channel // likewise
	only      bool     // likewise; see OnlyPath

	path        atomic.Pointer[PathInfo] // nil until there is one; written with mu held
	pathChanged chan struct{}
	strays      atomic.Int32

	repeater  *repeater
	owned     sync.WaitGroup // goroutines that end with the link
	answered  chan struct{}  // gets a value when an answer to a check has come; nil at the accepting end
	connected chan struct{}  // closed when ICE has found a path
	onceConn  sync.Once
	opened    chan struct{} // closed when both channels are open
	done      chan struct{} // closed when the link has ended
	gone      chan struct{} // closed when everything it started has ended

	mu     sync.Mutex
	err    error                       // why the link ended
	relays map[netip.AddrPort]struct{} // addresses of the peer's that are relays
	open   int                         // channels that are open
}

// Sync is the channel for small messages that are out of date before they could be
// repeated: unordered, never repeated by the transport.
func (l *Link) Sync() *Channel { return l.sync }

// Control is the reliable, ordered channel.
func (l *Link) Control() *Channel { return l.control }

// OnlyPath reports that the peer, while the link was set up, has named all its addresses,
// and that over UDP it has none but the one in use. As long as neither end's networks change,
// [Transport.DialBeside] has nothing to find beside a direct UDP path then: addresses that a
// peer keeps back (Config.HidePrivate) are not looked for.
func (l *Link) OnlyPath() bool { return l.only }

// Dialed reports whether this end dialed, as guests do.
func (l *Link) Dialed() bool { return l.dialed }

// Binding is a value that both ends of this link share and that no other link has. It
// is derived from the descriptions, so it is known to the signaling tunnel, and no
// secret; it separates the keys of links that have a secret in common.
func (l *Link) Binding() [32]byte { return l.binding }

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err says why the link ended: [ErrPathLost], [ErrPeerClosed], [ErrProtocol], or
// [net.ErrClosed] if this end closed it. It gives nil while the link lasts.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends the link, and waits until everything it started has ended, at most 5 s.
// What was sent and is not yet acknowledged may be lost: see [Channel.WaitBelow]. The
// peer notices at once, unless that one packet is lost. Later calls wait likewise.
func (l *Link) Close() error {
	l.fail(net.ErrClosed)
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-l.gone:
		return nil
	case <-t.C:
		return fmt.Errorf("closing a link: still not ended after %v", closeWait)
	}
}

// fail ends the link for a reason, of which the first counts, and starts to tear it
// down. It never blocks, so pion's callbacks may call it.
func (l *Link) fail(err error) {
	if l.end(err) {
		go l.tearDown() // Transport.Close waits for it
	}
}

// end notes why the link ended, and reports whether nothing else was noted before.
func (l *Link) end(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.err = err
	close(l.done)
	return true
}

func (l *Link) tearDown() {
	l.dismantle()
	close(l.gone)
	l.transport.remove(l)
}

// dismantle closes what the link is made of, and waits until that has ended.
func (l *Link) dismantle() {
	for _, c := range l.conns {
		c.insisting.Store(true)
	}
	if l.pc != nil {
		// DTLS first: it may wait for its retransmission timer, which it would otherwise
		// do under the lock that SCTP's end needs.
		if err := l.pc.SCTP().Transport().Stop(); err != nil {
			l.log.Debug("closing DTLS", "err", err)
		}
		if err := l.pc.GracefulClose(); err != nil && !errors.Is(err, dtls.ErrConnClosed) { // just now, above
			l.log.Debug("closing a peer connection", "err", err)
		}
	}
	l.mux.RemoveConnByUfrag(l.local.Ufrag)
	if l.tcp != nil {
		l.tcp.RemoveConnByUfrag(l.local.Ufrag)
	}
	l.owned.Wait()
	if l.dialed {
		if err := l.mux.Close(); err != nil {
			l.log.Debug("closing the sockets of a link", "err", err)
		}
	}
}

// Path is the pair of addresses in use. RTT is measured anew each time that the path is
// probed, which is when nothing else is sent.
func (l *Link) Path() PathInfo {
	p := l.path.Load()
	if p == nil {
		return PathInfo{}
	}
	info := *p
	if ice := l.iceTransport(); ice != nil {
		if s, ok := ice.GetSelectedCandidatePairStats(); ok && s.CurrentRoundTripTime > 0 {
			info.RTT = time.Duration(s.CurrentRoundTripTime * float64(time.Second))
		}
	}
	return info
}

// PathChanged gets a value when [Link.Path] has changed, several changes at once
// counting as one. It is never closed.
func (l *Link) PathChanged() <-chan struct{} { return l.pathChanged }

func (l *Link) iceTransport() *webrtc.ICETransport {
	return l.pc.SCTP().Transport().ICETransport()
}

// PathInfo describes the path of a link.
type PathInfo struct {
	Network               string // udp4, udp6, tcp4 or tcp6
	Local, Remote         netip.AddrPort
	LocalType, RemoteType CandidateType
	RTT                   time.Duration // 0 if not measured yet

	key netip.AddrPort // Remote as pion and the mux know it: over a relay, an alias
}

// String gives the network and the peer's address: "udp4 192.0.2.7:40000 (srflx)".
func (p PathInfo) String() string {
	if p.Network == "" {
		return "no path"
	}
	return fmt.Sprintf("%s %v (%v)", p.Network, p.Remote, p.RemoteType)
}

// Relayed reports whether the path goes over a TURN server, of either end's.
func (p PathInfo) Relayed() bool {
	return p.LocalType == CandidateRelay || p.RemoteType == CandidateRelay
}

// Better reports whether a session should move from another path to this one: a direct
// one is better than a relayed one, UDP is better than TCP, and of the same kind one that
// is clearly faster, or as fast and within a private network where the other is not.
func (p PathInfo) Better(than PathInfo) bool {
	if a, b := p.rank(), than.rank(); a != b {
		return a > b
	}
	if p.RTT == 0 || than.RTT == 0 {
		return false
	}
	if p.RTT < than.RTT+asFast && IsPrivate(p.Remote.Addr()) && !IsPrivate(than.Remote.Addr()) {
		return true
	}
	return p.RTT < than.RTT*3/4 && than.RTT-p.RTT > minGain
}

const (
	// minGain is what a round trip must be shorter for a session to move: less is not
	// felt, and may be chance. Machines that are busy measure some milliseconds too much.
	minGain = 5 * time.Millisecond
	// asFast is what one may be longer and count as the same.
	asFast = 2 * time.Millisecond
)

// The kinds of paths, better ones above.
const (
	rankRelayed = iota
	rankTCP
	rankUDP
)

func (p PathInfo) rank() int {
	switch {
	case p.Network == "" || p.Relayed():
		return rankRelayed
	case p.TCP():
		return rankTCP
	}
	return rankUDP
}

// TCP reports whether the path is a TCP connection.
func (p PathInfo) TCP() bool { return strings.HasPrefix(p.Network, "tcp") }

// setPath records the pair that pion selected.
func (l *Link) setPath(pair *webrtc.ICECandidatePair) {
	local, network, ok1 := fromPion(pair.Local)
	remote, _, ok2 := fromPion(pair.Remote)
	if !ok1 || !ok2 {
		return
	}
	p := PathInfo{
		Network:    network,
		Local:      local.Addr,
		Remote:     remote.Addr,
		LocalType:  local.Type,
		RemoteType: remote.Type,
		key:        remote.Addr,
	}
	if relay, peer, ok := l.mux.behind(remote.Addr); ok {
		p.Local, p.LocalType = relay, CandidateRelay
		p.Remote, p.RemoteType = peer, CandidatePrflx
	}
	l.mu.Lock()
	if _, ok := l.relays[p.Remote]; ok {
		p.RemoteType = CandidateRelay
	}
	l.path.Store(&p)
	l.mu.Unlock()
	l.log.Debug("path selected", "local", local, "remote", remote)
	select {
	case l.pathChanged <- struct{}{}:
	default: // told already
	}
}

// noteRelay notes that an address of the peer's is on a TURN server. The path may lead
// there already: checks can be faster than the word of where they come from.
func (l *Link) noteRelay(addr netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.relays == nil {
		l.relays = make(map[netip.AddrPort]struct{})
	}
	l.relays[addr] = struct{}{}
	if p := l.path.Load(); p != nil && p.Remote == addr {
		relayed := *p
		relayed.RemoteType = CandidateRelay
		l.path.Store(&relayed)
	}
}

// ensurePath asks for the pair that pion selected, should pion not have told yet: it
// does so in a goroutine of its own.
func (l *Link) ensurePath() {
	if l.path.Load() != nil {
		return
	}
	if pair, err := l.iceTransport().GetSelectedCandidatePair(); err == nil && pair != nil {
		l.setPath(pair)
	}
}

// fromPion reads a candidate of pion's own. Those of mDNS, which is off, have no
// address.
func fromPion(c *webrtc.ICECandidate) (Candidate, string, bool) {
	addr, err := netip.ParseAddr(c.Address)
	if err != nil {
		return Candidate{}, "", false
	}
	out := Candidate{
		Transport: CandidateUDP,
		Priority:  c.Priority,
		Addr:      netip.AddrPortFrom(addr.Unmap(), c.Port),
	}
	if c.Protocol == webrtc.ICEProtocolTCP {
		out.Transport = CandidateTCP
	}
	switch c.Typ {
	case webrtc.ICECandidateTypeHost:
		out.Type = CandidateHost
	case webrtc.ICECandidateTypeSrflx:
		out.Type = CandidateSrflx
	case webrtc.ICECandidateTypePrflx:
		out.Type = CandidatePrflx
	case webrtc.ICECandidateTypeRelay:
		out.Type = CandidateRelay
	default:
		return Candidate{}, "", false
	}
	return out, out.Network(), true
}

// Stats are counters and measurements of a link.
type Stats struct {
	// UDP datagrams' contents in bytes, checks and encryption included; TCP's are not
	// counted.
	BytesSent, BytesReceived uint64
	// Silence is how long nothing was heard from the peer over UDP.
	Silence time.Duration
	// SRTT is SCTP's smoothed round-trip time; 0 before anything was acknowledged.
	SRTT time.Duration
	// CongestionWindow is SCTP's, in bytes.
	CongestionWindow int
}

// Stats gives the counters. It is not for every packet: pion goes through all it has.
func (l *Link) Stats() Stats {
	var s Stats
	s.Silence = -1
	for _, c := range l.conns {
		s.BytesSent += c.bytesSent.Load()
		s.BytesReceived += c.bytesReceived.Load()
		if heard := c.heard.Load(); heard != 0 {
			if d := time.Duration(sinceEpoch() - heard); s.Silence < 0 || d < s.Silence {
				s.Silence = d
			}
		}
	}
	s.Silence = max(s.Silence, 0)
	for _, entry := range l.pc.GetStats() {
		if st, ok := entry.(webrtc.SCTPTransportStats); ok {
			s.SRTT = time.Duration(st.SmoothedRoundTripTime * float64(time.Second))
			s.CongestionWindow = int(st.CongestionWindow)
		}
	}
	return s
}
