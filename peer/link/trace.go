package link

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/webrtc/v3"
)

// pair is a pair of addresses, one of each end, between which a path was looked for.
type pair struct {
	network               string
	local, remote         netip.AddrPort
	localType, remoteType string // as of RFC 8839

	used           bool
	answered       bool   // a check was answered
	checked        bool   // checks were sent, or are about to be
	sent, received uint64 // datagrams to and from the remote address; 0 for TCP
	rtt            time.Duration
}

// String tells of the pair and its fate.
func (p pair) String() string {
	s := fmt.Sprintf("%s %v (%s) to %v (%s): %s", p.network, p.local, p.localType, p.remote, p.remoteType, p.fate())
	if p.sent+p.received > 0 {
		s += fmt.Sprintf(", %d datagrams sent, %d received", p.sent, p.received)
	}
	if p.rtt > 0 {
		s += fmt.Sprintf(", round trip %v", p.rtt.Round(10*time.Microsecond))
	}
	return s
}

func (p pair) fate() string {
	switch {
	case p.used:
		return "in use"
	case p.answered:
		return "answered"
	case !p.checked:
		return "not tried"
	case p.received > 0:
		return "heard, not answered"
	}
	return "no answer"
}

// pairs gives what pion tried, the pair in use first. Pion has several entries for an
// address that was tried anew; they are one here.
func (l *Link) pairs() []pair {
	candidates := make(map[string]webrtc.ICECandidateStats)
	var stats []webrtc.ICECandidatePairStats
	for _, s := range l.pc.GetStats() {
		switch s := s.(type) {
		case webrtc.ICECandidateStats:
			candidates[s.ID] = s
		case webrtc.ICECandidatePairStats:
			stats = append(stats, s)
		}
	}
	type key struct{ local, remote netip.AddrPort }
	found := make(map[key]*pair)
	inUse := l.Path()
	for _, s := range stats {
		own, other := candidates[s.LocalCandidateID], candidates[s.RemoteCandidateID]
		local, ok1 := statsAddr(own)
		remote, ok2 := statsAddr(other)
		if !ok1 || !ok2 {
			continue
		}
		p := found[key{local, remote}]
		if p == nil {
			p = &pair{
				network: other.Protocol + "6",
				local:   local, remote: remote,
				localType: own.CandidateType.String(),
			}
			if remote.Addr().Is4() {
				p.network = other.Protocol + "4"
			}
			p.used = inUse.Network == p.network && inUse.Local == local && inUse.Remote == remote
			if other.Protocol == "udp" {
				p.sent, p.received = l.mux.traffic(remote)
			}
			found[key{local, remote}] = p
		}
		if p.remoteType == "" || other.CandidateType != webrtc.ICECandidateTypePrflx { // a retry looks like that
			p.remoteType = other.CandidateType.String()
		}
		p.answered = p.answered || s.State == webrtc.StatsICECandidatePairStateSucceeded || s.ResponsesReceived > 0
		p.checked = p.checked || s.State != webrtc.StatsICECandidatePairStateWaiting && s.State != webrtc.StatsICECandidatePairStateFrozen
		if d := time.Duration(s.CurrentRoundTripTime * float64(time.Second)); d > 0 {
			p.rtt = d
		}
	}
	var out []pair
	for _, p := range found {
		out = append(out, *p)
	}
	rank := func(p pair) int {
		switch {
		case p.used:
			return 0
		case p.answered:
			return 1
		}
		return 2
	}
	slices.SortFunc(out, func(a, b pair) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.network, b.network), a.remote.Compare(b.remote), a.local.Compare(b.local))
	})
	return out
}

func statsAddr(s webrtc.ICECandidateStats) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(s.IP)
	return netip.AddrPortFrom(a.Unmap(), uint16(s.Port)), err == nil
}

// logPairs logs what became of the pairs, if anybody wants to know.
func (l *Link) logPairs() {
	if !l.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	for _, p := range l.pairs() {
		l.log.Debug("pair", "fate", p)
	}
}
