package link

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

var (
	// ErrNoPath reports that both sides exchanged their addresses, and no packet
	// made it there and back between any of them. It is always inside a [*PathError],
	// which says what was tried.
	ErrNoPath = errors.New("no direct path")

	// ErrNoAnswer reports that the peer never sent its description.
	ErrNoAnswer = errors.New("no description from the peer")

	// ErrHandshake reports that a path was found, and the encrypted connection over
	// it was not established: the wrong certificate, or too much loss.
	ErrHandshake = errors.New("handshake failed")

	// ErrBusy reports that too many links are being set up already.
	ErrBusy = errors.New("too many links being set up")

	// ErrProtocol reports that the peer sent something it must not.
	ErrProtocol = errors.New("peer broke the protocol")

	// ErrSignaling reports that descriptions could not be exchanged.
	ErrSignaling = errors.New("signaling failed")

	// ErrPathLost reports that nothing was heard from the peer for longer than
	// [Timeouts] allow.
	ErrPathLost = errors.New("direct path lost")

	// ErrPeerClosed reports that the peer closed the link.
	ErrPeerClosed = errors.New("link closed by the peer")

	// ErrTooBig reports a message longer than [MaxMessage].
	ErrTooBig = errors.New("message too big")

	// ErrFull reports that a channel has [MaxBuffered] bytes waiting already.
	ErrFull = errors.New("channel full")
)

// PathError says why no direct path was found. It wraps [ErrNoPath], and the
// context's error if that ended the search.
type PathError struct {
	// Local are the candidates that were offered to the peer.
	Local []Candidate
	// Tried are the peer's addresses, in the order in which they became known, and
	// what happened there.
	Tried []Attempt
	// Mappings are the answers of the STUN servers.
	Mappings []Mapping
	// NAT is what the NATs of this machine do, PeerNAT what the peer says of its own; nil
	// where that is not known.
	NAT, PeerNAT *NATReport
	// Refused is how many of the peer's candidates were not tried, because they
	// pointed where a peer has no business.
	Refused int
	// Paths are those that this end would have taken. RelaysThere tells whether the other end
	// would have taken a relayed one, and PeerRelay whether it has a TURN server for it. Relay
	// is why one of this end's servers was of no use, nil if they were or there are none.
	Paths                  Paths
	RelaysThere, PeerRelay bool
	Relay                  error
	// Elapsed is how long it was tried.
	Elapsed time.Duration
	// Cause is the context's error, if that ended the search, else nil.
	Cause error
}

// Attempt is one address of the peer that was tried.
type Attempt struct {
	Candidate Candidate
	// Sent and Received count datagrams. An address from which something was
	// received, though no path came about, shows a filter in one direction.
	Sent, Received uint64
}

// Error tells what was tried in one line.
func (e *PathError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v after %v: %d own and %d peer addresses", ErrNoPath, e.Elapsed.Round(100*time.Millisecond), len(e.Local), len(e.Tried))
	if e.Refused > 0 {
		fmt.Fprintf(&b, " (%d more refused)", e.Refused)
	}
	var heard int
	for _, a := range e.Tried {
		if a.Received > 0 {
			heard++
		}
	}
	if heard > 0 {
		fmt.Fprintf(&b, ", heard from %d of them", heard)
	} else {
		b.WriteString(", none answered")
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

// Unwrap gives ErrNoPath and the cause.
func (e *PathError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrNoPath}
	}
	return []error{ErrNoPath, e.Cause}
}

// Mapping is what one STUN server said of one of our sockets.
type Mapping struct {
	// Server is the STUN server as configured, and Addr the address that was asked.
	Server string
	Addr   netip.AddrPort
	// Mapped is our address as the server sees it; invalid if Err is set.
	Mapped netip.AddrPort
	RTT    time.Duration
	Err    error
}
